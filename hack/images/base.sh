# shellcheck shell=bash
# The image that all others are built on. Sourced by images.sh.
set -euo pipefail

readonly SUITE=bookworm
readonly BASE_VERSION=1 # raise it when make_base changes what is in the base image

# choose_base: sets BASE and BASE_KEY. Where a registry answers it is Debian's own image; the host cluster has
# none, so Debian is put together from its packages, and Python is installed once for all.
choose_base() {
  if [[ $PROVIDER != host ]]; then
    BASE=docker.io/library/debian:$SUITE-slim
    BASE_KEY=$BASE
    return
  fi
  local dockerfile=hack/images/python/Dockerfile debian=localhost/mce-base:$SUITE
  BASE=localhost/mce-python:$SUITE
  BASE_KEY=$BASE_VERSION-$(cd "$REPO" && digest "$dockerfile")
  if [[ -z ${BASE_IS_THERE:-} ]]; then
    if ! is_current "$debian" "$BASE_VERSION"; then
      need debootstrap=debootstrap /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring
      run_step "building $debian (debootstrap)" "$LOGS/image-base.log" make_base "$debian"
      made "$debian" "$BASE_VERSION"
    fi
    if ! is_current "$BASE" "$BASE_KEY"; then
      run_step "building $BASE" "$LOGS/image-python.log" store bud --pull-never --isolation chroot --network host \
        --build-arg "BASE=$debian" -t "$BASE" "$REPO/${dockerfile%/*}"
      made "$BASE" "$BASE_KEY"
    fi
    BASE_IS_THERE=1
  fi
}

# is_current NAME KEY, made NAME KEY: a base keeps its name, so its key is noted beside the store.
is_current() {
  local noted=$CACHE/images/keys/${1##*/}
  [[ -e $noted && $(< "$noted") == "$2" ]] && engine_has "$1"
}
made() {
  mkdir -p "$CACHE/images/keys"
  echo "$2" > "$CACHE/images/keys/${1##*/}"
}

make_base() {
  local name=$1 tree=$CACHE/images/base container
  rm -rf --one-file-system "$tree"
  mkdir -p "$CACHE/images"
  debootstrap --variant=minbase "$SUITE" "$tree" ${MCE_DEBIAN_MIRROR:+"$MCE_DEBIAN_MIRROR"}
  rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/cache/apt/*.bin "$tree"/var/lib/apt/lists/* \
    "$tree"/usr/share/{doc,man,info,locale}/*
  mkdir -p "$tree/var/lib/apt/lists/partial"
  # As in Debian's own image: packages installed later leave neither archives nor documentation behind.
  echo 'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };' > "$tree/etc/apt/apt.conf.d/docker-clean"
  printf 'path-exclude /usr/share/%s/*\n' doc man info locale > "$tree/etc/dpkg/dpkg.cfg.d/docker"
  tar -C "$tree" --numeric-owner -c . | gzip -1 > "$tree.tar.gz"
  container=$(store from scratch)
  store add "$container" "$tree.tar.gz" /
  store config --cmd bash --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
  store commit "$container" "$name"
  store rm "$container"
  rm -rf --one-file-system "$tree" "$tree.tar.gz"
}
