#!/usr/bin/env bash
# Builds the project's images and brings them into the current cluster; see hack/cluster/README.md.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=hack/cluster/lib.sh
. "$HERE/../cluster/lib.sh"
# shellcheck source=hack/images/engine.sh
. "$HERE/engine.sh"
# shellcheck source=hack/images/base.sh
. "$HERE/base.sh"

readonly REPOSITORY=${MCE_REGISTRY:-localhost/mce}

usage() {
  cat << 'EOF'
usage: hack/images/images.sh build [NAME...] | load [NAME...] | list

build makes the images whose inputs changed, load also brings them into the cluster. Without names: all
that have a Dockerfile (hack/images/images.txt).

environment:
  MCE_CLUSTER         which kind of cluster, as for cluster.sh
  MCE_REGISTRY        first part of the images' names (default localhost/mce); an existing cluster pulls from it
  MCE_DEBIAN_MIRROR   where the base image of the host cluster comes from (default debootstrap's own)
EOF
}

# --- the table

# row NAME: reads an image's line of images.txt into TAG, DOCKERFILE, CONTEXT and TARGET.
row() {
  local line
  line=$(grep -E "^$1[[:space:]]" "$HERE/images.txt") || die "there is no image '$1' in hack/images/images.txt"
  read -r _ TAG DOCKERFILE CONTEXT TARGET <<< "$line"
  if [[ $TAG == version ]]; then TAG=$(project_version); fi
}

project_version() {
  awk '/^\[/ {section = $0} section == "[project]" && $1 == "version" {gsub(/"/, "", $3); print $3; exit}' "$REPO/pyproject.toml"
}

names() { awk '!/^#/ && NF {print $1}' "$HERE/images.txt"; }

# chosen [NAME...]: the names given, else all that can be built.
chosen() {
  local name
  if (($#)); then
    printf '%s\n' "$@"
    return
  fi
  for name in $(names); do
    row "$name"
    if [[ -e $REPO/$DOCKERFILE ]]; then
      echo "$name"
    else
      echo "$name: there is no $DOCKERFILE, left out" >&2
    fi
  done
}

# --- the key: a hash of all that an image is made of

# copied DOCKERFILE: the paths that it takes from its context, one on each line.
copied() {
  awk '
    { line = line $0 }
    /\\$/ { sub(/\\$/, " ", line); next }
    {
      n = split(line, word, " "); line = ""
      instruction = toupper(word[1]); from = 0
      for (i = 2; i <= n; i++) if (word[i] ~ /^--from=/) from = 1
      if ((instruction == "COPY" || instruction == "ADD") && !from)
        for (i = 2; i < n; i++) if (word[i] !~ /^--/) print word[i]
      if (instruction == "RUN")
        for (i = 2; i <= n; i++)
          if (word[i] ~ /^--mount=.*type=bind/ && word[i] !~ /from=/ && match(word[i], /(source|src)=[^,]*/)) {
            path = substr(word[i], RSTART, RLENGTH); sub(/^[^=]*=/, "", path); print path
          }
    }' "$1"
}

# context_files CONTEXT DOCKERFILE: the files behind these paths, relative to the checkout. What git ignores
# (caches, virtual environments) is no input; without git all files count.
context_files() {
  local context=$1 paths=() path
  while read -r path; do paths+=("$context/$path"); done < <(copied "$2")
  ((${#paths[@]})) || return 0
  if git rev-parse --git-dir > /dev/null 2>&1; then
    git ls-files -z --cached --others --exclude-standard -- "${paths[@]}"
  else
    find "${paths[@]}" -type f -not -path '*/__pycache__/*' -print0
  fi | sort -zu | while IFS= read -r -d '' path; do [[ ! -f $path ]] || printf '%s\0' "$path"; done
}

# key_of BASE_KEY: for the row that was read.
key_of() {
  local files=()
  cd "$REPO"
  mapfile -d '' files < <(context_files "$CONTEXT" "$DOCKERFILE")
  {
    echo "$1 $TARGET"
    digest "$DOCKERFILE" "${files[@]}"
  } | sha256sum | cut -c1-12
}

# --- build and load

# build_image NAME: sets KEYED, the name under which the engine has it.
build_image() {
  local name=$1 key options=()
  if [[ $name == pause ]]; then
    build_pause
    return
  fi
  row "$name"
  [[ -e $REPO/$DOCKERFILE ]] || die "$name cannot be built: there is no $DOCKERFILE"
  choose_base
  key=$(key_of "$BASE_KEY")
  KEYED=$REPOSITORY/$name:$key
  if engine_has "$KEYED"; then
    say "$name: unchanged ($key)"
  else
    [[ $TARGET == - ]] || options+=(--target "$TARGET")
    run_step "building $name" "$LOGS/image-$name.log" engine_build "$KEYED" "$REPO/$DOCKERFILE" "$REPO/$CONTEXT" \
      --build-arg "BASE=$BASE" "${options[@]}"
    trim_store
  fi
  remember "$name" "$KEYED"
}

# The sandbox image of the host cluster has no distribution below it: one static program.
build_pause() {
  local key folder=$CACHE/images/pause
  key=$(cd "$REPO" && digest hack/cluster/pause/{main.go,go.mod,Dockerfile})
  KEYED=${PAUSE_IMAGE%:*}:${key:0:12}
  if engine_has "$KEYED"; then return; fi
  run_step "building pause" "$LOGS/image-pause.log" compile_pause "$folder"
  engine_build "$KEYED" "$REPO/hack/cluster/pause/Dockerfile" "$folder" >> "$LOGS/image-pause.log" 2>&1 ||
    fail_with_log "building pause" "$LOGS/image-pause.log"
  remember pause "$KEYED"
}

compile_pause() {
  mkdir -p "$1"
  cd "$REPO/hack/cluster/pause"
  GOFLAGS='' GOWORK=off CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$1/pause" .
}

# remember NAME KEYED: of each image the last two that were used are kept, so that changing back and forth
# between two branches builds nothing.
remember() {
  local folder=$CACHE/images/keys/$ENGINE/$1 old
  mkdir -p "$folder"
  touch "$folder/${2##*:}"
  # shellcheck disable=SC2012 # the names are hashes
  for old in $(ls -t "$folder" | tail -n +3); do
    engine_remove "${2%:*}:$old" > /dev/null 2>&1 || true
    rm "$folder/$old"
  done
}

load_image() {
  local name=$1 reference
  build_image "$name"
  if [[ $name == pause ]]; then reference=$PAUSE_IMAGE; else reference=$REPOSITORY/$name:$TAG; fi
  "load_$PROVIDER" "$name" "$KEYED" "$reference"
}

build() {
  local name
  for name in $(chosen "$@"); do build_image "$name"; done
}

load() {
  local name
  [[ $PROVIDER != existing || -n ${MCE_REGISTRY:-} ]] ||
    die "an existing cluster has to pull the images: set MCE_REGISTRY=registry.example.com/team, a registry to which you are logged in and from which the cluster may pull"
  for name in $(chosen "$@"); do load_image "$name"; done
}

list() {
  local name
  for name in $(names); do
    row "$name"
    printf '%-45s %s\n' "$REPOSITORY/$name:$TAG" "$([[ -e $REPO/$DOCKERFILE ]] && echo "$DOCKERFILE" || echo "(no $DOCKERFILE)")"
  done
}

main() {
  local command=${1:-}
  case $command in
    list) list ;;
    build | load)
      shift
      PROVIDER=$(provider)
      choose_engine
      # Two builds at once would do the same work twice.
      mkdir -p "$CACHE"
      exec {LOCK}> "$CACHE/images.lock"
      flock -n "$LOCK" || { say "waiting for another images.sh to end"; flock "$LOCK"; }
      "$command" "$@"
      ;;
    -h | --help | help) usage ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
}

main "$@"
