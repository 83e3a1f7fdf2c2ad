{{- define "mce.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 54 | trimSuffix "-" -}}-operator
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 54 | trimSuffix "-" -}}-operator
{{- end -}}
{{- end -}}

{{- define "mce.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "mce.fullname" .) -}}
{{- end -}}

{{- define "mce.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/component: operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* managed-by is Helm here: the operator takes what carries its own name there for part of an endpoint. */ -}}
{{- define "mce.labels" -}}
{{ include "mce.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "mce.image" -}}
{{- printf "%s/%s:%s" .root.Values.image.registry .name (.root.Values.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}

{{- /* What the operator may do where it serves: read what it watches, write its children, the status and scale, resize pods. */ -}}
{{- define "mce.rules" -}}
- apiGroups: [serving.mce.dev]
  resources: [multicontainerendpoints]
  verbs: [get, list, watch]
- apiGroups: [serving.mce.dev]
  resources: [multicontainerendpoints/status]
  verbs: [patch]
# Autoscaling by invocations moves spec.replicas as kubectl scale does.
- apiGroups: [serving.mce.dev]
  resources: [multicontainerendpoints/scale]
  verbs: [patch]
# Clusters that guard owner references (OpenShift) ask for this before blockOwnerDeletion may be set.
- apiGroups: [serving.mce.dev]
  resources: [multicontainerendpoints/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
# A change of CPU or memory alone is made in place: of the pods, and of the ReplicaSet that would make new ones.
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [get, list, watch, patch]
# A pod whose CPU or memory was changed in place is told of which template it is now.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
- apiGroups: [""]
  resources: [pods/resize]
  verbs: [patch]
- apiGroups: [metrics.k8s.io]
  resources: [pods]
  verbs: [list]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{- /* In the release's namespace alone: the Lease of the operator's replicas. `create` can not be bound to a name. */ -}}
{{- define "mce.leaseRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "mce.fullname" . }}]
  verbs: [get, update]
{{- end -}}
