# shellcheck shell=bash
# The host cluster: Kubernetes as plain processes of this machine, pods by containerd. No Docker, no kind,
# no registry. Sourced by cluster.sh; the configuration files are in host-config.sh.
set -euo pipefail

# shellcheck source=hack/cluster/hyperkube.sh
. "$REPO/hack/cluster/hyperkube.sh"
# shellcheck source=hack/cluster/host-config.sh
. "$REPO/hack/cluster/host-config.sh"

readonly DAEMONS=(containerd etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy
  coredns metrics-server)

# Kernel settings that kubelet, kube-proxy or this script change; "down" puts them back.
readonly SYSCTLS=(net.ipv4.ip_forward net.ipv4.conf.all.route_localnet net.bridge.bridge-nf-call-iptables
  vm.overcommit_memory kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes
  net.netfilter.nf_conntrack_max net.netfilter.nf_conntrack_tcp_timeout_established
  net.netfilter.nf_conntrack_tcp_timeout_close_wait net.netfilter.nf_conntrack_tcp_be_liberal)

# Folders that are made outside the cache whatever the settings; "down" removes those that were not there.
readonly OUTSIDE=(/run/containerd /run/netns /usr/libexec/kubernetes /var/lib/cni /var/lib/kubelet
  /var/log/containers /var/log/pods /opt/containerd)

# --- processes

# alive NAME: does the pid file name a live process? Sets PID. The start time tells a reused number apart,
# and a zombie counts as dead: where pid 1 reaps late, a killed process keeps its /proc entry for a while.
alive() {
  local started now
  [[ -s $STATE/pid/$1 ]] || return 1
  read -r PID started < "$STATE/pid/$1"
  now=$(awk '$3 != "Z" {print $22}' "/proc/$PID/stat" 2> /dev/null) || return 1
  [[ -n $now && $now == "$started" ]]
}

# start NAME COMMAND...: starts a daemon unless it runs. The environment is empty, because proxies and
# certificate variables of the caller's shell are not meant for it; the lock must not be inherited.
start() {
  local name=$1 pid
  shift
  ! alive "$name" || return 0
  (cd "$STATE" && exec setsid env -i HOME=/root PATH="$STATE/bin:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin" "$@" \
    >> "$STATE/log/$name.log" 2>&1 < /dev/null {LOCK}>&-) &
  pid=$!
  echo "$pid $(awk '{print $22}' "/proc/$pid/stat")" > "$STATE/pid/$name"
}

# wait_for WHAT SECONDS DAEMON PROBE...: until the probe succeeds; the daemon's log explains a failure.
wait_for() {
  local what=$1 limit=$2 name=$3 end=$((SECONDS + $2)) told=$SECONDS
  shift 3
  until "$@" > /dev/null 2>&1; do
    alive "$name" || fail_with_log "waiting for $what: $name ended, which" "$STATE/log/$name.log"
    ((SECONDS < end)) || fail_with_log "waiting for $what ($limit s)" "$STATE/log/$name.log"
    if ((SECONDS >= told + 15)); then
      told=$SECONDS
      say "still waiting for $what, $((SECONDS - end + limit)) s"
    fi
    sleep 0.05
  done
  mark "$what"
}

mark() { printf '%5s s  %s\n' "$(since "$BEGIN")" "$1"; }

# Two runs at once would start everything twice; the lock goes with the process that holds it.
lock() {
  mkdir -p "$CACHE"
  exec {LOCK}> "$CACHE/cluster.lock"
  flock -n "$LOCK" || { say "waiting for another cluster.sh to end"; flock "$LOCK"; }
}

# --- probes

kubectl_admin() { "$STATE/bin/kubectl" --kubeconfig "$STATE/conf/admin.kubeconfig" "$@"; }
api_get() {
  curl -sf --noproxy '*' --max-time 5 --cacert "$STATE/pki/ca.crt" --cert "$STATE/pki/admin.crt" \
    --key "$STATE/pki/admin.key" "$API$1"
}
answers() { curl -sf --noproxy '*' --max-time 5 "$1"; }
ctr_k8s() { ctr -a "$STATE/containerd.sock" -n k8s.io "$@"; }
node_ready() {
  local query='{.status.conditions[?(@.type=="Ready")].status}{.spec.taints}'
  # A new node has a not-ready taint for a moment after it is Ready, and nothing is scheduled to it.
  [[ $(kubectl_admin get node "$NODE" -o "jsonpath=$query") == True ]]
}
default_account() { kubectl_admin get serviceaccount default; } # no pod can be created before it is there

# --- up

host_up() {
  BEGIN=$(now)
  require_usable_machine
  need containerd=containerd runc=runc nft=nftables /usr/lib/cni/bridge=containernetworking-plugins \
    openssl=openssl ip=iproute2 curl=curl sysctl=procps mount=mount flock=util-linux
  ensure_hyperkube
  lock
  remember_provider host
  warn_of_other_build
  export NO_PROXY="$ADDRESS${NO_PROXY:+,$NO_PROXY}" no_proxy="$ADDRESS${no_proxy:+,$no_proxy}"
  link_programs
  write_configuration
  mark configuration
  save_machine_state
  make_network
  make_cgroups
  start_control_plane
  start_node
  start_addons
  wait_for "node $NODE, ready for pods" 90 kubelet node_ready
  wait_for "default service account" 30 kube-controller-manager default_account
  wait_for "Services (kube-proxy)" 30 kube-proxy answers http://127.0.0.1:10256/healthz
  wait_for "DNS" 30 coredns answers http://127.0.0.1:18181/ready
  publish "$STATE/bin/kubectl" "$STATE/bin/helm" --kubeconfig "$STATE/conf/admin.kubeconfig"
  if [[ ${MCE_WAIT_METRICS:-} == 1 ]]; then
    wait_for "metrics" 90 metrics-server api_get "/apis/metrics.k8s.io/v1beta1/nodes/$NODE"
  fi
}

require_usable_machine() {
  ((EUID == 0)) || die "the host cluster needs root (bridge, mounts, cgroups): use sudo -E, or MCE_CLUSTER=kind or existing"
  [[ $(uname -s) == Linux ]] || die "the host cluster needs Linux: use MCE_CLUSTER=kind or existing"
  # A Unix socket's path has at most 107 characters; kubelet/device-plugins is the longest one below STATE.
  ((${#STATE} <= 70)) || die "the path $STATE is too long for Unix sockets; set MCE_CACHE to a shorter one"
  mkdir -p "$STATE"
  # overlayfs refuses a writable layer that is itself on an overlay, as a container's own disk is.
  [[ $(stat -f -c %T "$STATE") != overlayfs ]] || die "$STATE is on overlayfs, where containers cannot start; set MCE_CACHE to a folder on a plain disk"
}

# Running programs are not exchanged under a cluster's pods; who changed their sources has to say when.
warn_of_other_build() {
  local running
  alive kube-apiserver || return 0
  running=$(readlink "/proc/$PID/exe" || true)
  [[ $running == "$HYPERKUBE" ]] || say "note: the cluster runs ${running##*/}, not ${HYPERKUBE##*/}; \"down\" and \"up\" exchange it"
}

link_programs() {
  local name
  mkdir -p "$STATE/bin"
  for name in "${PROGRAMS[@]}"; do ln -sfn "$HYPERKUBE" "$STATE/bin/$name"; done
}

save_machine_state() {
  local key folder
  if [[ ! -e $STATE/sysctl.saved ]]; then
    modprobe br_netfilter 2> /dev/null || true # built in where it cannot be loaded
    for key in "${SYSCTLS[@]}"; do
      [[ ! -e /proc/sys/${key//.//} ]] || echo "$key=$(sysctl -n "$key")"
    done > "$STATE/sysctl.saved.new"
    mv "$STATE/sysctl.saved.new" "$STATE/sysctl.saved"
  fi
  if [[ ! -e $STATE/outside.saved ]]; then
    for folder in "${OUTSIDE[@]}"; do [[ -e $folder ]] || echo "$folder"; done > "$STATE/outside.saved.new"
    mv "$STATE/outside.saved.new" "$STATE/outside.saved"
  fi
}

# The bridge is there before anything else, because everything listens on it.
make_network() {
  if ! ip link show "$BRIDGE" > /dev/null 2>&1; then
    ip link add "$BRIDGE" type bridge
    ip addr add "$ADDRESS/24" dev "$BRIDGE"
    ip link set "$BRIDGE" up
  fi
  sysctl -qw net.ipv4.ip_forward=1
  # Pod -> Service -> pod stays on the bridge: without this the answer would come from the pod's own address.
  sysctl -qw net.bridge.bridge-nf-call-iptables=1 2> /dev/null ||
    say "warning: the kernel has no br_netfilter; pods may not reach Services"
}

# cgroup_folders: our folder in each hierarchy, be it v1 (one for each controller) or v2 (one).
cgroup_folders() {
  local root
  for root in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [[ ! -e $root/cgroup.procs ]] || echo "$root/$CGROUP"
  done
}

# A root of its own keeps the pods apart from those of any other kubelet of this machine.
make_cgroups() {
  local folder file controllers
  while read -r folder; do mkdir -p "$folder"; done < <(cgroup_folders)
  folder=/sys/fs/cgroup/cpuset/$CGROUP # v1: an empty cpuset takes no process
  for file in cpuset.cpus cpuset.mems; do
    if [[ -e $folder/$file && -z $(< "$folder/$file") ]]; then cat "${folder%/*}/$file" > "$folder/$file"; fi
  done
  if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then # v2: controllers are handed down explicitly
    controllers=$(tr ' ' '\n' < /sys/fs/cgroup/cgroup.controllers | grep -xE 'cpuset|cpu|io|memory|pids|hugetlb' | sed 's/^/+/' | paste -sd' ')
    echo "$controllers" > /sys/fs/cgroup/cgroup.subtree_control
  fi
}

start_control_plane() {
  start containerd containerd -c conf/containerd.toml
  start etcd bin/etcd --data-dir "$STATE/etcd" --listen-client-urls http://127.0.0.1:2379 \
    --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 \
    --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster default=http://127.0.0.1:2380 \
    --unsafe-no-fsync --log-level warn # the data is thrown away at "down": no need to fsync it
  # requestheader-allowed-names is essential with one CA for all: any client certificate could impersonate.
  start kube-apiserver bin/kube-apiserver --etcd-servers=http://127.0.0.1:2379 --bind-address="$ADDRESS" \
    --advertise-address="$ADDRESS" --secure-port=6443 --allow-privileged --service-cluster-ip-range="$SERVICE_RANGE" \
    --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key --client-ca-file=pki/ca.crt \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-signing-key-file=pki/sa.key --service-account-key-file=pki/sa.pub \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --kubelet-client-certificate=pki/apiserver-kubelet.crt --kubelet-client-key=pki/apiserver-kubelet.key \
    --kubelet-certificate-authority=pki/ca.crt --kubelet-preferred-address-types=InternalIP \
    --requestheader-client-ca-file=pki/ca.crt --requestheader-allowed-names=front-proxy-client \
    --requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group \
    --requestheader-username-headers=X-Remote-User --proxy-client-cert-file=pki/front-proxy.crt \
    --proxy-client-key-file=pki/front-proxy.key --profiling=false
  wait_for containerd 30 containerd ctr_k8s version
  MCE_CLUSTER=host "$REPO/hack/images/images.sh" load pause
  wait_for "API server" 60 kube-apiserver api_get /readyz
  # Client rate: with the default of 20/s it takes 4.5 s to start the controllers, and the node is tainted as long.
  # Autoscaler: a new pod's cpu is left out for 5 min by default, and a test would wait for that.
  start kube-controller-manager bin/kube-controller-manager --kubeconfig=conf/kube-controller-manager.kubeconfig \
    --authentication-kubeconfig=conf/kube-controller-manager.kubeconfig \
    --authorization-kubeconfig=conf/kube-controller-manager.kubeconfig --bind-address=127.0.0.1 --leader-elect=false \
    --node-monitor-period=1s --use-service-account-credentials --kube-api-qps=200 --kube-api-burst=400 \
    --service-account-private-key-file=pki/sa.key --root-ca-file=pki/ca.crt \
    --cluster-signing-cert-file=pki/ca.crt --cluster-signing-key-file=pki/ca.key --profiling=false \
    --horizontal-pod-autoscaler-sync-period=2s --horizontal-pod-autoscaler-initial-readiness-delay=1s \
    --horizontal-pod-autoscaler-cpu-initialization-period=1s --horizontal-pod-autoscaler-downscale-stabilization=10s
  start kube-scheduler bin/kube-scheduler --kubeconfig=conf/kube-scheduler.kubeconfig \
    --authentication-kubeconfig=conf/kube-scheduler.kubeconfig --authorization-kubeconfig=conf/kube-scheduler.kubeconfig \
    --bind-address=127.0.0.1 --leader-elect=false --profiling=false
}

start_node() {
  start kubelet bin/kubelet --config=conf/kubelet.yaml --kubeconfig=conf/kubelet.kubeconfig \
    --root-dir="$STATE/kubelet" --cert-dir="$STATE/kubelet/pki" --hostname-override="$NODE" --node-ip="$ADDRESS"
  start kube-proxy bin/kube-proxy --config=conf/kube-proxy.yaml
}

start_addons() {
  start coredns bin/coredns -conf conf/Corefile
  start metrics-server bin/metrics-server --kubeconfig=conf/metrics-server.kubeconfig \
    --authentication-kubeconfig=conf/metrics-server.kubeconfig --authorization-kubeconfig=conf/metrics-server.kubeconfig \
    --bind-address=127.0.0.1 --secure-port=4443 --tls-cert-file=pki/metrics-server-server.crt \
    --tls-private-key-file=pki/metrics-server-server.key --kubelet-certificate-authority=pki/ca.crt \
    --kubelet-preferred-address-types=InternalIP --metric-resolution=10s --kubelet-request-timeout=5s
  kubectl_admin apply -f "$STATE/conf/addons.yaml" > "$STATE/log/addons.log" 2>&1 ||
    fail_with_log "applying the metrics API service" "$STATE/log/addons.log"
}

# --- down

# Whatever state the cluster is in. Images and binaries are kept. Nothing here may stop at the first error:
# each command takes away what the one before may have failed to.
host_down() {
  BEGIN=$(now)
  ((EUID == 0)) || die "the host cluster was made by root, and root has to take it down"
  [[ -d $STATE ]] || { say "there is no host cluster in $STATE"; return 0; }
  lock
  set +e
  stop_control_plane
  if [[ -d $STATE/containerd/state ]]; then remove_containers; fi # a clean "down" leaves none
  end_daemon containerd TERM
  end_shims
  remove_mounts
  ip link del "$BRIDGE" 2> /dev/null
  nft delete table ip kube-proxy 2> /dev/null
  nft delete table ip6 kube-proxy 2> /dev/null
  remove_cgroups
  restore_machine_state
  remove_state
  set -e
  report_leftovers
  mark "down"
}

# SIGKILL, because nothing of theirs is kept and a draining API server takes over 10 s.
stop_control_plane() {
  local name
  for name in "${DAEMONS[@]}"; do
    [[ $name == containerd ]] || { alive "$name" && kill -9 "$PID"; }
  done
  for name in "${DAEMONS[@]}"; do
    [[ $name == containerd ]] || end_daemon "$name" KILL
  done
}

# end_daemon NAME SIGNAL: sends the signal, and SIGKILL after 10 s.
end_daemon() {
  local name=$1 tries
  alive "$name" && kill -s "$2" "$PID"
  for ((tries = 0; tries < 200; tries++)); do alive "$name" || break; sleep 0.05; done
  if alive "$name"; then
    say "$name did not end in 10 s, killing it"
    kill -9 "$PID"
    while alive "$name"; do sleep 0.05; done
  fi
  rm -f "$STATE/pid/$name"
}

# The containers go while containerd runs (it is started for that), so that its store stays consistent and
# no image has to be imported again. If some remain nevertheless, the store goes with them.
remove_containers() {
  local tries pids containers sandboxes
  mkdir -p "$STATE"/{conf,log,pid}
  write_containerd
  start containerd containerd -c conf/containerd.toml
  for ((tries = 0; tries < 200; tries++)); do
    timeout 5 ctr -a "$STATE/containerd.sock" version > /dev/null 2>&1 && break
    alive containerd || { say "containerd does not start"; break; }
    sleep 0.05
  done
  for ((tries = 0; tries < 100; tries++)); do
    mapfile -t pids < <(pod_processes)
    ((${#pids[@]})) || break
    kill -9 "${pids[@]}" 2> /dev/null
    sleep 0.05
  done
  for ((tries = 0; tries < 40; tries++)); do
    containers=$(list containers) || { containers=unknown; sleep 0.1; continue; }
    [[ -n $containers ]] || break
    list tasks | xargs -r timeout 60 ctr -a "$STATE/containerd.sock" -n k8s.io tasks rm -f > /dev/null 2>&1
    xargs -r timeout 60 ctr -a "$STATE/containerd.sock" -n k8s.io containers rm <<< "$containers" > /dev/null 2>&1
  done
  if [[ -n $containers ]]; then
    say "some containers could not be removed: the image store goes too"
    touch "$STATE/store-is-bad"
  fi
  sandboxes=$(list sandboxes 2> /dev/null) && [[ -n $sandboxes ]] &&
    xargs -r timeout 60 ctr -a "$STATE/containerd.sock" -n k8s.io sandboxes rm -f <<< "$sandboxes" > /dev/null 2>&1
  mark "pods removed"
}

list() { timeout 5 ctr -a "$STATE/containerd.sock" -n k8s.io "$1" ls -q; }

pod_processes() {
  local folder
  while read -r folder; do
    find "$folder" -name cgroup.procs -exec cat {} + 2> /dev/null
  done < <(cgroup_folders) | sort -u
}

# shims: the pids of the containerd shims of this cluster, and of no other.
shims() {
  local file words
  for file in /proc/[0-9]*/cmdline; do
    words=$({ tr '\0' ' ' < "$file"; } 2> /dev/null) || continue
    [[ $words == *containerd-shim*" -address $STATE/containerd.sock "* ]] || continue
    file=${file%/cmdline}
    echo "${file##*/}"
  done
}

end_shims() { shims | xargs -r kill -9; }

mounts() { awk -v below="$STATE/" 'index($5, below) == 1 {print $5}' /proc/self/mountinfo | tac; }

remove_mounts() {
  local tries point
  for ((tries = 0; tries < 5; tries++)); do
    while read -r point; do umount "$point" 2> /dev/null || umount -l "$point"; done < <(mounts)
  done
}

remove_cgroups() {
  local tries folder left
  for ((tries = 0; tries < 40; tries++)); do
    left=
    while read -r folder; do
      [[ -d $folder ]] || continue
      find "$folder" -depth -type d -exec rmdir {} + 2> /dev/null
      [[ ! -d $folder ]] || left=1
    done < <(cgroup_folders)
    [[ -n $left ]] || return 0
    sleep 0.05
  done
}

restore_machine_state() {
  local line
  if [[ -e $STATE/sysctl.saved ]]; then
    while read -r line; do sysctl -qw "$line"; done < "$STATE/sysctl.saved"
    rm "$STATE/sysctl.saved"
  fi
  if [[ -e $STATE/outside.saved ]]; then
    while read -r line; do
      ! mountpoint -q "$line" || umount "$line" # network namespaces make /run/netns a mount
      rm -rf --one-file-system "$line"
    done < "$STATE/outside.saved"
    rm "$STATE/outside.saved"
  fi
}

# The logs of the last cluster are kept beside: after a failed test they are wanted most.
remove_state() {
  if [[ -d $STATE/log ]]; then
    rm -rf "$STATE"/{log,podlogs}.last
    mv "$STATE/log" "$STATE/log.last"
    [[ ! -d $STATE/podlogs ]] || mv "$STATE/podlogs" "$STATE/podlogs.last"
  fi
  rm -rf --one-file-system "${STATE:?}"/{etcd,kubelet,ipam,pid,pki,conf,cni,opt,bin} \
    "$STATE"/containerd/state "$STATE"/containerd.sock{,.ttrpc}
  if [[ -e $STATE/store-is-bad ]]; then rm -rf --one-file-system "$STATE"/{containerd,store-is-bad}; fi
}

# leftovers: what a clean machine has none of.
leftovers() {
  local pid folder
  while read -r pid; do echo "process $pid (containerd-shim)"; done < <(shims)
  while read -r pid; do echo "process $pid (of a pod)"; done < <(pod_processes)
  mounts | sed 's/^/mount /'
  ! ip link show "$BRIDGE" > /dev/null 2>&1 || echo "network bridge $BRIDGE"
  nft list tables 2> /dev/null | grep kube-proxy || true
  while read -r folder; do [[ ! -d $folder ]] || echo "cgroup $folder"; done < <(cgroup_folders)
}

report_leftovers() {
  local left
  left=$(leftovers)
  [[ -z $left ]] || die "the cluster is down, but this is left behind:"$'\n'"$left"
}

# --- status

host_status() {
  local name stopped=0
  for name in "${DAEMONS[@]}"; do
    if alive "$name"; then
      printf '%-24s runs, pid %s\n' "$name" "$PID"
    else
      printf '%-24s does not run\n' "$name"
      stopped=1
    fi
  done
  say "logs: $STATE/log"
  ((stopped == 0)) || return 1
  kubectl_admin get nodes
}
