# shellcheck shell=bash
# A cluster in Docker containers, by kind. Sourced by cluster.sh.
set -euo pipefail

readonly KIND_NAME=mce
readonly KIND_VERSION=v0.33.0

kind_up() {
  docker_answers || die "MCE_CLUSTER=kind needs a running Docker engine; \"docker info\" fails"
  have kubectl || die "kubectl is not on PATH: https://kubernetes.io/docs/tasks/tools/"
  ensure_kind
  remember_provider kind
  if ! kind get clusters 2> /dev/null | grep -qx "$KIND_NAME"; then
    run_step "kind create cluster" "$LOGS/kind.log" kind create cluster --name "$KIND_NAME" --wait 180s \
      --config "$REPO/hack/cluster/kind/cluster.yaml" --kubeconfig "$OUT/kubeconfig.kind"
  fi
  kind get kubeconfig --name "$KIND_NAME" > "$OUT/kubeconfig.kind"
  require_version "$OUT/kubeconfig.kind"
  # kind brings no metrics. The node fetches this one image from registry.k8s.io; where it cannot, all but
  # autoscaling works.
  kubectl --kubeconfig "$OUT/kubeconfig.kind" apply -f "$REPO/hack/cluster/kind/metrics-server.yaml" > "$LOGS/kind-metrics.log" 2>&1 ||
    fail_with_log "applying metrics-server" "$LOGS/kind-metrics.log"
  if [[ ${MCE_WAIT_METRICS:-} == 1 ]]; then
    run_step "metrics-server" "$LOGS/kind-metrics.log" kubectl --kubeconfig "$OUT/kubeconfig.kind" \
      wait --for=condition=Available --timeout=180s apiservice/v1beta1.metrics.k8s.io
  fi
  publish "$(command -v kubectl)" "$(command -v helm || true)" --kubeconfig "$OUT/kubeconfig.kind"
  rm "$OUT/kubeconfig.kind"
}

ensure_kind() {
  if have kind; then return; fi
  export PATH=$CACHE/bin:$PATH
  have kind || run_step "installing kind $KIND_VERSION" "$LOGS/kind-install.log" \
    env GOBIN="$CACHE/bin" GOFLAGS= go install "sigs.k8s.io/kind@$KIND_VERSION"
}

kind_down() {
  PATH=$CACHE/bin:$PATH
  have kind || die "kind is not on PATH"
  kind delete cluster --name "$KIND_NAME" --kubeconfig "$OUT/kubeconfig"
}

kind_status() {
  PATH=$CACHE/bin:$PATH
  have kind || die "kind is not on PATH"
  kind get nodes --name "$KIND_NAME"
  kubectl --kubeconfig "$OUT/kubeconfig" get nodes
}
