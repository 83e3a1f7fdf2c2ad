# shellcheck shell=bash
# The host cluster's programs: one Go binary, built once for each state of its sources and kept in the cache.
# Sourced by host.sh.
# shellcheck disable=SC2034 # not all that is set here is used here
set -euo pipefail

readonly KUBERNETES=1.36.3
readonly PROGRAMS=(kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl
  etcd coredns metrics-server helm)

# go_version: the Go that builds hyperkube; since 1.21 an older Go fetches the one that go.mod asks for.
go_version() {
  export GOTOOLCHAIN=${GOTOOLCHAIN:-auto}
  go -C "$REPO/hack/cluster/hyperkube" env GOVERSION 2> /dev/null
}

# hyperkube_path: prints the binary's place; its name is the key to all that went into it.
# Without any Go a binary from elsewhere (a restored CI cache) is as good.
hyperkube_path() {
  local sources version found
  sources=$(cd "$REPO/hack/cluster/hyperkube" && digest go.mod go.sum main.go)
  if version=$(go_version); then
    printf '%s' "$CACHE/hyperkube-$KUBERNETES-$sources-$version"
    return
  fi
  for found in "$CACHE/hyperkube-$KUBERNETES-$sources-"*; do
    [[ ! -x $found ]] || { printf '%s' "$found"; return; }
  done
  die "building the host cluster's programs needs Go >= 1.26 (found: $(go version 2> /dev/null || echo none));" \
    "install it from https://go.dev/dl/ and put it on PATH." \
    "Any Go >= 1.21 does if it may fetch a newer one (GOTOOLCHAIN=auto); Debian 12's golang is too old"
}

# ensure_hyperkube: builds the binary unless it is there. Sets HYPERKUBE.
ensure_hyperkube() {
  HYPERKUBE=$(hyperkube_path)
  if [[ ! -x $HYPERKUBE ]]; then
    mkdir -p "$CACHE"
    say "Kubernetes $KUBERNETES is built from source once; this takes 14 minutes of CPU time, so 7 on two idle cores, and 5 GB of disk meanwhile"
    run_step "go mod download" "$LOGS/go-modules.log" download_modules
    run_step "go build" "$LOGS/go-build.log" build_hyperkube "$HYPERKUBE"
    keep_newest 2 "$CACHE"/hyperkube-*
  fi
}

# Only what the build imports: "go mod download" would fetch twice as much, for other modules' tests.
download_modules() {
  cd "$REPO/hack/cluster/hyperkube"
  GOFLAGS='' GOWORK=off CGO_ENABLED=0 go list -deps . > /dev/null
}

build_hyperkube() {
  local target=$1 package version=${KUBERNETES} flags='-s -w'
  # Without these the programs say v0.0.0, and version checks between them go wrong.
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+=" -X $package.gitVersion=v$version -X $package.gitMajor=${version%%.*}"
    flags+=" -X $package.gitMinor=$(cut -d. -f2 <<< "$version") -X $package.gitTreeState=clean -X $package.gitCommit=unknown"
  done
  cd "$REPO/hack/cluster/hyperkube"
  # The build cache grows to 3.4 GB and is of no use afterwards: a build is done again only when a version
  # changes, and then nearly everything is compiled again. A build that was cut short goes on from it.
  export GOCACHE=$CACHE/go-build GOFLAGS='' GOWORK=off CGO_ENABLED=0
  nice go build -trimpath -buildvcs=false -ldflags "$flags" -o "$target.part" .
  mv "$target.part" "$target"
  rm -rf "$GOCACHE"
}
