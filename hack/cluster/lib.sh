# shellcheck shell=bash
# What cluster.sh and images.sh share: messages, steps with progress, places, the choice of cluster.
# Sourced, never run.
# shellcheck disable=SC2034 # not all that is set here is used here
set -euo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly REPO
# The checkout gets only what a shell or a test wants at hand; all that is large, or belongs to the
# machine rather than to this checkout, is in CACHE.
readonly OUT=$REPO/.cluster
readonly CACHE=${MCE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mce}
readonly LOGS=$CACHE/log
readonly STATE=$CACHE/cluster                # the host cluster's
readonly PAUSE_IMAGE=localhost/mce-pause:1   # its sandbox image, in no registry

# The usual system folders come last: a user's PATH often lacks the sbin ones, which root's tools need.
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

say() { printf '%s\n' "$*"; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

have() { command -v "$1" > /dev/null 2>&1; }

# since MICROSECONDS: seconds since a value of "now", with one decimal.
now() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }
since() {
  local tenths=$((($(now) - $1) / 100000))
  printf '%d.%d' $((tenths / 10)) $((tenths % 10))
}

# fail_with_log STEP LOG: the one way in which a step fails.
fail_with_log() {
  local step=$1 log=$2
  {
    printf 'error: %s failed\n' "$step"
    if [[ -s $log ]]; then
      printf 'the last lines of %s:\n' "$log"
      tail -n 20 "$log" | sed 's/^/  | /'
    else
      printf 'nothing was written to %s\n' "$log"
    fi
  } >&2
  exit 1
}

# run_step TITLE LOG COMMAND...: runs a long command with its output in LOG, and a line every 15 s.
# The command has a process group of its own, so that an interrupted script takes all of it along; it
# runs in the background, because "command || status=$?" would switch errexit off inside a function.
run_step() {
  local title=$1 log=$2 begin told=0 passed job status=0
  shift 2
  begin=$(now)
  mkdir -p "$(dirname "$log")"
  say "$title ..."
  set -m
  ("$@") > "$log" 2>&1 < /dev/null &
  job=$!
  set +m
  # shellcheck disable=SC2064 # the job's number of now
  trap "kill -TERM -- -$job 2> /dev/null || true" EXIT
  while kill -0 "$job" 2> /dev/null; do
    sleep 0.1
    passed=$((($(now) - begin) / 1000000))
    if ((passed >= told + 15)); then
      told=$passed
      say "$title: $passed s, see $log"
    fi
  done
  wait "$job" || status=$?
  trap - EXIT
  ((status == 0)) || fail_with_log "$title (exit code $status)" "$log"
  say "$title: done in $(since "$begin") s"
}

# digest FILE...: one hash of the files' names, executable bits and contents.
# The names are part of it: give them relative to the checkout, so that its place does not matter.
digest() {
  local file
  for file; do
    if [[ -x $file ]]; then echo "x $file"; else echo "- $file"; fi
  done | cat - <(sha256sum -- "$@") | sha256sum | cut -c1-16
}

# keep_newest COUNT FILE...: removes all but the newest files.
keep_newest() {
  local count=$1
  shift
  # shellcheck disable=SC2012 # the names are this project's own
  ls -td -- "$@" | tail -n +$((count + 1)) | xargs -r rm -rf --
}

# need COMMAND=PACKAGE...: installs the Debian packages of the commands that are missing.
# A command with a slash is a file: some tools are deliberately not on PATH.
need() {
  local pair command missing=()
  for pair; do
    command=${pair%%=*}
    if [[ $command == /* ]]; then
      [[ -e $command ]] || missing+=("${pair#*=}")
    else
      have "$command" || missing+=("${pair#*=}")
    fi
  done
  ((${#missing[@]})) || return 0
  if ((EUID != 0)) || ! have apt-get; then
    die "these packages are missing (Debian names): ${missing[*]}; install them, or run as root on Debian or Ubuntu"
  fi
  say "missing Debian packages: ${missing[*]}"
  run_step "apt-get install" "$LOGS/apt.log" apt_install "${missing[@]}"
}

apt_install() {
  apt-get update
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# provider: which kind of cluster is meant. A cluster that is up stays the choice until it is taken down.
provider() {
  local choice=${MCE_CLUSTER:-}
  if [[ -z $choice && -s $OUT/provider ]]; then
    choice=$(< "$OUT/provider")
  fi
  case $choice in
    existing | kind | host) printf '%s' "$choice" ;;
    '' | auto) if docker_answers && { have kind || have go; }; then printf kind; else printf host; fi ;;
    *) die "MCE_CLUSTER is '$choice'; it can be existing, kind or host" ;;
  esac
}

docker_answers() { have docker && timeout 10 docker info > /dev/null 2>&1; }
