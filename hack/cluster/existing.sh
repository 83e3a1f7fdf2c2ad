# shellcheck shell=bash
# A cluster that somebody else made: used as it is, never changed. Sourced by cluster.sh.
set -euo pipefail

existing_up() {
  have kubectl || die "kubectl is not on PATH: https://kubernetes.io/docs/tasks/tools/"
  [[ ${KUBECONFIG:-$HOME/.kube/config} != "$OUT/kubeconfig" ]] ||
    die "MCE_CLUSTER=existing, but KUBECONFIG is this project's own copy; set it to your cluster's"
  require_version "${KUBECONFIG:-}"
  remember_provider existing
  publish "$(command -v kubectl)" "$(command -v helm || true)"
}

existing_down() { say "the existing cluster is left as it is"; }

existing_status() { kubectl --kubeconfig "$OUT/kubeconfig" get nodes; }
