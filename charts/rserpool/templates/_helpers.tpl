{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}
{{- /*
The names are fixed, whatever the release is called: the operator, the pods it admits and the certificates it makes know them
(names.py, config.py of rserpool_operator). One installation in a cluster, therefore.
*/ -}}
{{- define "rserpool.name" -}}rserpool-operator{{- end -}}

{{- define "rserpool.selector" -}}
app.kubernetes.io/name: rserpool-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "rserpool.labels" -}}
{{ include "rserpool.selector" . }}
{{ include "rserpool.commonLabels" . }}
{{- end -}}

{{- define "rserpool.commonLabels" -}}
app.kubernetes.io/part-of: rserpool
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* An image without its tag: (dict "root" $ "name" NAME). Without a registry nothing could be pulled, so say so before anything is installed. */ -}}
{{- define "rserpool.image" -}}
{{- $image := .root.Values.image -}}
{{- if $image.registry -}}
{{- printf "%s/%s" (trimSuffix "/" $image.registry) .name -}}
{{- else if $image.allowLocal -}}
{{- .name -}}
{{- else -}}
{{- fail "\n\nimage.registry is empty, and the images are on no public registry.\nWrite: make images push REGISTRY=registry.example/team, then --set image.registry=registry.example/team\n(on kind, once the images are loaded into its nodes: --set image.allowLocal=true)\n" -}}
{{- end -}}
{{- end -}}

{{- define "rserpool.tag" -}}
{{- .Values.image.tag | default .Chart.AppVersion -}}
{{- end -}}

{{- define "rserpool.operatorImage" -}}
{{- printf "%s:%s" (include "rserpool.image" (dict "root" . "name" .Values.image.operator)) (include "rserpool.tag" .) -}}
{{- end -}}

{{- /* The operator's configuration: RSERPOOL_<SECTION>_<KEY> of config.py, for the Deployment and the check before an uninstallation. */ -}}
{{- define "rserpool.environment" -}}
- name: RSERPOOL_INSTALLATION_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: RSERPOOL_INSTALLATION_POD
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: RSERPOOL_INSTALLATION_WATCH
  value: {{ join "," .Values.watch.namespaces | quote }}
- name: RSERPOOL_INSTALLATION_CLUSTER_DOMAIN
  value: {{ .Values.clusterDomain | quote }}
- name: RSERPOOL_INSTALLATION_TRUST_DOMAIN
  value: {{ .Values.trustDomain | quote }}
- name: RSERPOOL_NODE_IMAGE
  value: {{ include "rserpool.image" (dict "root" . "name" .Values.image.node) | quote }}
- name: RSERPOOL_NODE_VERSION
  value: {{ include "rserpool.tag" . | quote }}
- name: RSERPOOL_NODE_PULL_POLICY
  value: {{ .Values.image.pullPolicy | quote }}
- name: RSERPOOL_NODE_PULL_SECRETS
  value: {{ join "," .Values.image.pullSecrets | quote }}
- name: RSERPOOL_NODE_REGISTRAR_RESOURCES
  value: {{ .Values.node.registrarResources | toJson | quote }}
- name: RSERPOOL_NODE_SIDECAR_RESOURCES
  value: {{ .Values.node.sidecarResources | toJson | quote }}
- name: RSERPOOL_ENROLMENT_CHECK_SOURCE
  value: {{ .Values.enrolment.checkSource | quote }}
- name: RSERPOOL_ENROLMENT_PER_SECOND
  value: {{ .Values.enrolment.perSecond | quote }}
- name: RSERPOOL_LEASE_DURATION
  value: {{ .Values.lease.duration | quote }}
- name: RSERPOOL_LEASE_RENEW
  value: {{ .Values.lease.renew | quote }}
- name: RSERPOOL_LEASE_RETRY
  value: {{ .Values.lease.retry | quote }}
- name: RSERPOOL_LOG_LEVEL
  value: {{ .Values.log.level | quote }}
- name: RSERPOOL_LOG_FORMAT
  value: {{ .Values.log.format | quote }}
{{- end -}}

{{- /* Pod Security "restricted", and the user of both images. */ -}}
{{- define "rserpool.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "rserpool.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "rserpool.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}
