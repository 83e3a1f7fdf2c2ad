# shellcheck shell=bash
# Everything the host cluster's programs read: addresses, certificates, configuration files.
# Sourced by host.sh. All of it is written under $STATE.
set -euo pipefail

readonly BRIDGE=mce0
readonly NODE=mce-node
readonly ADDRESS=10.188.0.1     # the bridge: API server, kubelet and DNS listen here, pods are beside it
readonly POD_RANGE=10.188.0.0/24
readonly SERVICE_RANGE=10.190.0.0/24
readonly API=https://$ADDRESS:6443
readonly CGROUP=mce-pods        # all pods are under it in every hierarchy: "down" ends whatever is in it

# put FILE: writes stdin to FILE only when that changes it; kube-proxy ends when its file is written at all.
put() {
  cat > "$1.new"
  if cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; fi
}

# One CA signs everything, so there is no "insecure" switch anywhere: the kubelet, metrics-server and the
# aggregation layer all check certificates. Written once per cluster; "down" throws them away.
write_certificates() {
  [[ ! -e $STATE/pki/complete ]] || return 0
  (
    cd "$STATE/pki"
    openssl ecparam -name prime256v1 -genkey -noout -out ca.key
    openssl req -x509 -new -key ca.key -subj /CN=mce-test-ca -days 3650 -out ca.crt \
      -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,digitalSignature,keyCertSign,cRLSign
    certificate apiserver /CN=kube-apiserver "IP:$ADDRESS,IP:127.0.0.1,IP:${SERVICE_RANGE%.0/24}.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
    certificate kubelet-server /CN=$NODE "IP:$ADDRESS,DNS:$NODE"
    certificate metrics-server-server /CN=metrics-server DNS:localhost,DNS:metrics-server.kube-system.svc,IP:127.0.0.1
    certificate admin /O=system:masters/CN=admin
    certificate apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client
    certificate front-proxy /CN=front-proxy-client
    certificate kubelet /O=system:nodes/CN=system:node:$NODE
    certificate kube-controller-manager /CN=system:kube-controller-manager
    certificate kube-scheduler /CN=system:kube-scheduler
    certificate kube-proxy /CN=system:kube-proxy
    certificate coredns /O=system:masters/CN=coredns
    certificate metrics-server /O=system:masters/CN=metrics-server
    openssl genrsa -out sa.key 2048 2> /dev/null
    openssl rsa -in sa.key -pubout -out sa.pub 2> /dev/null
    touch complete
  )
}

certificate() { # NAME SUBJECT [ALTERNATIVE_NAMES]
  openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
  openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
  {
    echo keyUsage=critical,digitalSignature
    echo extendedKeyUsage=serverAuth,clientAuth
    [[ -z ${3:-} ]] || echo "subjectAltName=$3"
  } > extensions
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 \
    -extfile extensions -out "$1.crt" 2> /dev/null
}

write_kubeconfigs() {
  local user
  for user in admin kubelet kube-controller-manager kube-scheduler kube-proxy coredns metrics-server; do
    put "$STATE/conf/$user.kubeconfig" << EOF
apiVersion: v1
kind: Config
clusters: [{name: mce, cluster: {server: "$API", certificate-authority: $STATE/pki/ca.crt}}]
users: [{name: $user, user: {client-certificate: $STATE/pki/$user.crt, client-key: $STATE/pki/$user.key}}]
contexts: [{name: mce, context: {cluster: mce, user: $user}}]
current-context: mce
EOF
  done
}

# No masquerading and no port mapping: not one iptables rule is written. Pods reach each other, Services
# and the host's bridge address, and have no way out, which is what a test wants.
write_cni() {
  put "$STATE/cni/10-bridge.conflist" << EOF
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
 {"type": "bridge", "bridge": "$BRIDGE", "isGateway": true, "ipMasq": false, "hairpinMode": true,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "$POD_RANGE"}]],
           "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "$STATE/ipam"}}]}
EOF
}

# restrict_oom_score_adj: a sandbox asks for a score of -998, which needs CAP_SYS_RESOURCE; where the
# machine itself is a container that is often missing, and no pod would start.
write_containerd() {
  if [[ $(containerd --version) =~ \ v?1\. ]]; then
    put "$STATE/conf/containerd.toml" << EOF
version = 2
root = "$STATE/containerd/root"
state = "$STATE/containerd/state"
disabled_plugins = ["io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "$STATE/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$STATE/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE_IMAGE"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$STATE/cni"
EOF
  else
    put "$STATE/conf/containerd.toml" << EOF
version = 3
root = "$STATE/containerd/root"
state = "$STATE/containerd/state"
[grpc]
  address = "$STATE/containerd.sock"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '$PAUSE_IMAGE'
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['/usr/lib/cni']
    conf_dir = '$STATE/cni'
[plugins.'io.containerd.internal.v1.opt']
  path = '$STATE/opt'
[plugins.'io.containerd.nri.v1.nri']
  disable = true
EOF
  fi
}

# resolvConf "" keeps the host's resolver out of the pods. crashLoopBackOff: a test of restarts should
# not wait five minutes. failCgroupV1: Kubernetes 1.35 and later refuse v1 cgroups unless told.
write_kubelet() {
  put "$STATE/conf/kubelet.yaml" << EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $ADDRESS
readOnlyPort: 0
healthzBindAddress: 127.0.0.1
containerRuntimeEndpoint: unix://$STATE/containerd.sock
tlsCertFile: $STATE/pki/kubelet-server.crt
tlsPrivateKeyFile: $STATE/pki/kubelet-server.key
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $STATE/pki/ca.crt}}
authorization: {mode: Webhook}
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
oomScoreAdj: 0
maxOpenFiles: 20000
failSwapOn: false
clusterDNS: [$ADDRESS]
clusterDomain: cluster.local
resolvConf: ""
makeIPTablesUtilChains: false
enableProfilingHandler: false
evictionHard: {memory.available: 100Mi, nodefs.available: 500Mi, imagefs.available: 500Mi, nodefs.inodesFree: "1000", imagefs.inodesFree: "1000"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
nodeStatusUpdateFrequency: 2s
nodeStatusReportFrequency: 1m
volumePluginDir: $STATE/kubelet/volumeplugins
crashLoopBackOff: {maxContainerRestartPeriod: 10s}
podLogsDir: $STATE/podlogs
EOF
}

# nftables mode: its rules are one table, which "down" deletes; iptables mode leaves dozens of chains.
write_kube_proxy() {
  put "$STATE/conf/kube-proxy.yaml" << EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: $ADDRESS
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
hostnameOverride: $NODE
clientConnection: {kubeconfig: $STATE/conf/kube-proxy.kubeconfig}
mode: nftables
clusterCIDR: $POD_RANGE
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
EOF
}

# DNS is a process of the host on the bridge: no image, no Service, and it answers before the first pod.
write_coredns() {
  put "$STATE/conf/Corefile" << EOF
.:53 {
  bind $ADDRESS
  errors
  health 127.0.0.1:18080
  ready 127.0.0.1:18181
  kubernetes cluster.local in-addr.arpa ip6.arpa {
    kubeconfig $STATE/conf/coredns.kubeconfig
    pods insecure
    fallthrough in-addr.arpa ip6.arpa
    ttl 1
  }
}
EOF
}

# metrics-server is a process of the host too: the API server resolves an ExternalName Service by itself,
# so that no endpoints are needed and metrics-server listens on the loopback address only.
write_addons() {
  put "$STATE/conf/addons.yaml" << EOF
apiVersion: v1
kind: Service
metadata: {name: metrics-server, namespace: kube-system}
spec: {type: ExternalName, externalName: localhost}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  group: metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  caBundle: $(base64 -w0 "$STATE/pki/ca.crt")
  service: {name: metrics-server, namespace: kube-system, port: 4443}
EOF
}

write_configuration() {
  mkdir -p "$STATE"/{bin,pki,conf,log,pid,cni,opt}
  write_certificates
  write_kubeconfigs
  write_cni
  write_containerd
  write_kubelet
  write_kube_proxy
  write_coredns
  write_addons
}
