{{/* What the configuration says that templates have to know. */}}
{{- define "prescale.facts" -}}
{{ .Files.Get "files/facts.json" }}
{{- end }}

{{- define "prescale.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains "prescale" .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-prescale" .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "prescale.selector" -}}
app.kubernetes.io/name: prescale
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "prescale.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "prescale.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "prescale.account" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "prescale.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "prescale.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* What is refused, whatever else is right. */}}
{{- define "prescale.validate" -}}
{{- $facts := include "prescale.facts" . | fromJson }}
{{- $replicas := int .Values.replicas }}
{{- if and (gt $replicas 1) (not $facts.leased) }}
{{- fail (printf "replicas is %d, and the configuration has no lease: all of them would act at once.\nhint: set [lease] place in the configuration, such as \"kubernetes://%s/prescale\", and write the chart anew" $replicas .Release.Namespace) }}
{{- end }}
{{- if and (gt $replicas 1) (not $facts.shared) }}
{{- fail (printf "replicas is %d, and each of them would run all pipelines: they take each other's transactions away.\nhint: set features.processes in the configuration to %d, and write the chart anew" $replicas $replicas) }}
{{- end }}
{{- if and .Values.scaling.hpa.enabled .Values.scaling.keda.enabled }}
{{- fail "scaling.hpa and scaling.keda are both enabled: KEDA makes an HPA of each ScaledObject, and two HPAs fight.\nhint: enable one of them" }}
{{- end }}
{{- if and .Values.scaling.hpa.enabled (not $facts.ports.metrics) }}
{{- fail "scaling.hpa is enabled, and the configuration serves no metrics that an HPA could ask for.\nhint: set adapter.metrics.listen in the configuration, such as \"0.0.0.0:6443\", and write the chart anew" }}
{{- end }}
{{- if and .Values.scaling.keda.enabled (not $facts.ports.keda) }}
{{- fail "scaling.keda is enabled, and the configuration has no scaler that KEDA could ask.\nhint: set adapter.keda.listen in the configuration, such as \"0.0.0.0:9443\", and write the chart anew" }}
{{- end }}
{{- if .Values.apiServices.enabled }}
{{- if not $facts.ports.metrics }}
{{- fail "apiServices is enabled, and the configuration serves no metrics.\nhint: set adapter.metrics.listen in the configuration, such as \"0.0.0.0:6443\", and write the chart anew" }}
{{- end }}
{{- if eq (empty .Values.apiServices.caBundle) (not .Values.apiServices.insecureSkipTLSVerify) }}
{{- fail "apiServices needs either caBundle or insecureSkipTLSVerify: the API server has to know what to make of the certificate.\nhint: --set-file apiServices.caBundle=ca.crt" }}
{{- end }}
{{- end }}
{{- range $name, $service := .Values.services }}
{{- if gt (int $service.min) (int $service.max) }}
{{- fail (printf "services.%s: min %d exceeds max %d" $name (int $service.min) (int $service.max)) }}
{{- end }}
{{- end }}
{{- end }}
