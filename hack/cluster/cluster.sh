#!/usr/bin/env bash
# Brings a Kubernetes cluster for development and end-to-end tests up and down; see README.md beside it.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=hack/cluster/lib.sh
. "$HERE/lib.sh"
# shellcheck source=hack/cluster/host.sh
. "$HERE/host.sh"
# shellcheck source=hack/cluster/kind.sh
. "$HERE/kind.sh"
# shellcheck source=hack/cluster/existing.sh
. "$HERE/existing.sh"

readonly OLDEST_MINOR=33 # of Kubernetes 1.x

usage() {
  cat << 'EOF'
usage: hack/cluster/cluster.sh up | down | status

environment:
  MCE_CLUSTER       existing, kind or host; without it: the cluster that is up, else kind if Docker runs, else host
  MCE_CACHE         where binaries, images and the host cluster's state are kept (default ~/.cache/mce)
  MCE_WAIT_METRICS  1: "up" also waits until metrics are served (10 s more)
EOF
}

# require_version KUBECONFIG: does the server answer, and is it new enough? An empty name is kubectl's default.
require_version() {
  local answer minor
  answer=$(KUBECONFIG=$1 kubectl get --raw /version --request-timeout=10s 2>&1) ||
    die "the cluster does not answer: $answer"
  minor=$(sed -n 's/.*"minor": *"\([0-9]*\).*/\1/p' <<< "$answer")
  [[ -n $minor ]] || die "the cluster's version cannot be read from: $answer"
  ((minor >= OLDEST_MINOR)) || die "the cluster is Kubernetes 1.$minor; mce needs 1.$OLDEST_MINOR or newer"
}

# remember_provider NAME: "down" and images.sh then mean this cluster. It is noted as soon as something is made
# that "down" would have to take away, and not before: a mistaken MCE_CLUSTER should not stick.
remember_provider() {
  mkdir -p "$OUT"
  echo "$1" > "$OUT/provider"
}

# publish KUBECTL HELM [KUBECTL_OPTION...]: puts what tests and shells use into the checkout's .cluster folder.
publish() {
  local kubectl=$1 helm=$2
  shift 2
  mkdir -p "$OUT/bin"
  ln -sfn "$kubectl" "$OUT/bin/kubectl"
  if [[ -n $helm ]]; then
    ln -sfn "$helm" "$OUT/bin/helm"
  else
    rm -f "$OUT/bin/helm"
    say "warning: helm is not on PATH; the chart cannot be installed without it: https://helm.sh/docs/intro/install/"
  fi
  (umask 077 && "$OUT/bin/kubectl" "$@" config view --raw --flatten --minify > "$OUT/kubeconfig.new")
  mv "$OUT/kubeconfig.new" "$OUT/kubeconfig"
  say "export KUBECONFIG=$OUT/kubeconfig"
  say "export PATH=$OUT/bin:\$PATH"
}

up() {
  local choice
  choice=$(provider)
  say "cluster: $choice"
  mkdir -p "$LOGS"
  "${choice}_up"
}

down() {
  local choice
  choice=$(provider)
  "${choice}_down"
  rm -rf "$OUT"
}

status() {
  local choice
  choice=$(provider)
  say "cluster: $choice"
  "${choice}_status"
}

case ${1:-} in
  up | down | status) (($# == 1)) || { usage >&2; exit 2; }; "$1" ;;
  -h | --help | help) usage ;;
  *) usage >&2; exit 2 ;;
esac
