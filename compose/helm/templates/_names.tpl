{{- define "detections.name" -}}
{{- printf "%s" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "detections.selector" -}}
app.kubernetes.io/name: detections
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "detections.labels" -}}
{{ include "detections.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "detections.image" -}}
{{- if .Values.image.registry }}{{ .Values.image.registry }}/{{ end -}}
{{- end }}

{{- define "detections.claim" -}}
{{- .Values.storage.existingClaim | default (printf "%s-storage" (include "detections.name" .)) -}}
{{- end }}

{{- define "detections.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
# its first process collects the children that nobody waits for, and ours is told to stop even while it starts
shareProcessNamespace: true
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "detections.container" -}}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "detections.dns" -}}
- to:
    - namespaceSelector: {}
      podSelector: {matchLabels: {k8s-app: kube-dns}}
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}
