# shellcheck shell=bash
# What builds images, and how they get into each kind of cluster. Sourced by images.sh.
set -euo pipefail

readonly STORE_LIMIT=15 # GiB

# choose_engine: sets ENGINE. The host cluster has buildah, which needs no daemon and no registry.
choose_engine() {
  case $PROVIDER in
    host)
      ((EUID == 0)) || die "images for the host cluster are built by root: use sudo -E"
      need buildah=buildah ctr=containerd flock=util-linux
      ENGINE=buildah
      ;;
    kind)
      docker_answers || die "images for kind are built by Docker; \"docker info\" fails"
      ENGINE=docker
      ;;
    existing)
      if docker_answers; then
        ENGINE=docker
      elif have podman; then
        ENGINE=podman
      elif have buildah; then
        ENGINE=buildah
      else
        die "none of docker, podman and buildah is here to build images"
      fi
      ;;
  esac
}

# --- buildah has a store of its own in the cache; docker and podman use theirs

store() { # COMMAND...
  local folder=$CACHE/images
  mkdir -p "$folder"
  nice buildah --root "$folder/store" --runroot "$folder/run" "$@"
}

engine_has() {
  case $ENGINE in
    buildah) store inspect --type image "$1" > /dev/null 2>&1 ;;
    *) "$ENGINE" image inspect "$1" > /dev/null 2>&1 ;;
  esac
}

engine_remove() {
  case $ENGINE in
    buildah) store rmi "$1" ;;
    *) "$ENGINE" rmi "$1" ;;
  esac
}

# trim_store: what no image needs any more are the layers of unfinished and of earlier builds. They make the
# next build quick, so they stay until they are many.
trim_store() {
  local gibibytes
  [[ $ENGINE == buildah ]] || return 0
  gibibytes=$(du -s --block-size=1G "$CACHE/images/store" | cut -f1)
  if ((gibibytes >= STORE_LIMIT)); then store rmi --prune > /dev/null; fi
}

# engine_build NAME DOCKERFILE CONTEXT [OPTION...]
engine_build() {
  local name=$1 dockerfile=$2 context=$3 ca=()
  shift 3
  if [[ $ENGINE != buildah ]]; then
    "$ENGINE" build -f "$dockerfile" -t "$name" "$@" "$context"
    return
  fi
  mapfile -t ca < <(host_ca_mounts)
  # chroot: no network namespace and no runtime is needed to run apt and pip.
  store bud --layers --pull-never --isolation chroot --network host "${ca[@]}" \
    -f "$dockerfile" -t "$name" "$@" "$context"
}

# host_ca_mounts: behind a proxy that re-signs TLS, pip and uv need the machine's certificates while an image
# is built. They come as mounts, one option on each line, so that no Dockerfile and no image has anything of
# it but empty files to mount over. The base has ca-certificates, whose file must not change by installing it.
host_ca_mounts() {
  local folder=$CACHE/images/ca bundle=/etc/ssl/certs/ca-certificates.crt
  host_has_own_ca || return 0
  mkdir -p "$folder"
  cp "${SSL_CERT_FILE:-${PIP_CERT:-$bundle}}" "$folder/ca.crt"
  printf '[global]\ncert = %s\n' "$bundle" > "$folder/pip.conf"
  echo 'system-certs = true' > "$folder/uv.toml"
  echo "--volume=$folder/ca.crt:$bundle:ro"
  echo "--volume=$folder/pip.conf:/etc/pip.conf:ro"
  echo "--volume=$folder/uv.toml:/etc/uv/uv.toml:ro"
}

host_has_own_ca() {
  [[ -n ${SSL_CERT_FILE:-}${PIP_CERT:-} ]] || compgen -G '/usr/local/share/ca-certificates/*.crt' > /dev/null
}

# --- load_<provider> NAME KEYED REFERENCE

# An archive's digest tells whether containerd has this very image under this name.
load_host() {
  local name=$1 keyed=$2 reference=$3 known archive
  ctr_host version > /dev/null 2>&1 || die "the cluster is not up: hack/cluster/cluster.sh up"
  known=$CACHE/images/keys/buildah/$name/${keyed##*:}
  if [[ -s $known && $(ctr_digest "$reference") == "$(< "$known")" ]]; then return; fi
  archive=$CACHE/images/$name.tar
  run_step "loading $reference" "$LOGS/load-$name.log" import_image "$keyed" "$reference" "$archive"
  ctr_digest "$reference" > "$known"
}

import_image() {
  local keyed=$1 reference=$2 archive=$3
  rm -f "$archive"
  store push "$keyed" "oci-archive:$archive:$reference"
  ctr_host images import "$archive"
  rm "$archive"
  remove_nameless
}

# An image that lost its name to a newer one stays in containerd under its id, and the disk fills.
remove_nameless() {
  ctr_host images ls | awk '
    NR > 1 && $1 ~ /^sha256:/ {digest[$1] = $3; next}
    NR > 1 {named[$3]}
    END {for (id in digest) if (!(digest[id] in named)) print id}' |
    xargs -r ctr -a "$STATE/containerd.sock" -n k8s.io images rm
}

ctr_host() { ctr -a "$STATE/containerd.sock" -n k8s.io "$@"; }
ctr_digest() { ctr_host images ls "name==$1" | awk 'NR == 2 {print $3}'; }

# What was brought into this cluster is noted in .cluster, which goes with the cluster.
load_kind() {
  local name=$1 keyed=$2 reference=$3
  if is_noted "$name" "$keyed"; then return; fi
  PATH=$CACHE/bin:$PATH
  docker tag "$keyed" "$reference"
  run_step "loading $reference" "$LOGS/load-$name.log" kind load docker-image "$reference" --name mce
  note "$name" "$keyed"
}

load_existing() {
  local name=$1 keyed=$2 reference=$3
  if is_noted "$name" "$keyed"; then return; fi
  case $ENGINE in
    buildah) store tag "$keyed" "$reference" && run_step "pushing $reference" "$LOGS/load-$name.log" store push "$reference" ;;
    *) "$ENGINE" tag "$keyed" "$reference" && run_step "pushing $reference" "$LOGS/load-$name.log" "$ENGINE" push "$reference" ;;
  esac
  note "$name" "$keyed"
}

is_noted() { [[ -e $OUT/loaded/$1 && $(< "$OUT/loaded/$1") == "$2" ]]; }
note() {
  mkdir -p "$OUT/loaded"
  echo "$2" > "$OUT/loaded/$1"
}
