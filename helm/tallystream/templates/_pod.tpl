{{/* The pods. What they have in common: nobody's privileges, a root file system that cannot be written, one settings file. */}}

{{- define "tallystream.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "tallystream.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "tallystream.environment" -}}
- {name: TALLYSTREAM_CONFIG, value: /etc/tallystream/tallystream.toml}
- {name: TALLYSTREAM_POSTGRES_DSN_FILE, value: /run/secrets/tallystream/postgres-dsn}
{{- end -}}

{{- define "tallystream.secretEnvironment" -}}
{{- range $option, $key := .Values.kafka.secretOptions }}
- name: TALLYSTREAM_KAFKA_OPTION_{{ $option | replace "." "_" | upper }}_FILE
  value: /run/secrets/tallystream/kafka/{{ $key }}
{{- end }}
{{- range $name, $key := .Values.secretSettings.keys }}
- name: TALLYSTREAM_{{ $name | upper }}_FILE
  value: /run/secrets/tallystream/settings/{{ $key }}
{{- end }}
{{- end -}}

{{- define "tallystream.mounts" -}}
- {name: settings, mountPath: /etc/tallystream, readOnly: true}
- {name: secrets, mountPath: /run/secrets/tallystream, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- with .Values.pod.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Takes (root, settings: a ConfigMap's name, dsnSecret, dsnKey, all: whether it needs more than PostgreSQL). */}}
{{- define "tallystream.volumes" -}}
- name: settings
  configMap: {name: {{ .settings }}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ .dsnSecret }}
          items: [{key: {{ .dsnKey }}, path: postgres-dsn}]
      {{- if and .all .root.Values.kafka.secretOptions }}
      - secret:
          name: {{ .root.Values.kafka.existingSecret }}
          items:
            {{- range $key := values .root.Values.kafka.secretOptions | uniq | sortAlpha }}
            - {key: {{ $key }}, path: kafka/{{ $key }}}
            {{- end }}
      {{- end }}
      {{- if and .all .root.Values.secretSettings.keys }}
      - secret:
          name: {{ .root.Values.secretSettings.existingSecret }}
          items:
            {{- range $key := values .root.Values.secretSettings.keys | uniq | sortAlpha }}
            - {key: {{ $key }}, path: settings/{{ $key }}}
            {{- end }}
      {{- end }}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- with .root.Values.pod.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tallystream.placement" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- with .Values.pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.pod.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .Values.pod.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .Values.pod.affinity }}
affinity: {{ toJson . }}
{{- end }}
{{- with .Values.pod.topologySpreadConstraints }}
topologySpreadConstraints: {{ toJson . }}
{{- end }}
{{- end -}}

{{/* A probe. Takes (path, probe). */}}
{{- define "tallystream.probe" -}}
{{ toJson (merge (dict "httpGet" (dict "path" .path "port" "http")) .probe) }}
{{- end -}}

{{/*
A Deployment's pod. Takes (root, component, consumer or "", command, configMap, settings: its file, own: its settings,
resources).
*/}}
{{- define "tallystream.podTemplate" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "tallystream.podLabels" . | nindent 4 }}
  annotations:
    checksum/settings: {{ sha256sum .settings }}
    checksum/secrets: {{ sha256sum (toJson (list $root.Values.postgres.dsn $root.Values.kafka $root.Values.secretSettings)) }}
    {{- with $root.Values.pod.annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "tallystream.serviceAccount" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "tallystream.gracePeriod" (dict "root" $root "settings" .own) }}
  securityContext:
    {{- include "tallystream.podSecurity" $root | nindent 4 }}
  {{- with include "tallystream.placement" $root | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  containers:
    - name: tallystream
      image: {{ include "tallystream.image" $root }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: [{{ .command }}]
      securityContext:
        {{- include "tallystream.containerSecurity" $root | nindent 8 }}
      env:
        {{- include "tallystream.environment" $root | nindent 8 }}
        - {name: TALLYSTREAM_HTTP_HOST, value: 0.0.0.0}
        - {name: TALLYSTREAM_HTTP_PORT, value: {{ $root.Values.http.port | quote }}}
        {{- with include "tallystream.secretEnvironment" $root | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $root.Values.pod.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: http, containerPort: {{ $root.Values.http.port }}}
      startupProbe: {{ include "tallystream.probe" (dict "path" "/live" "probe" $root.Values.probes.startup) }}
      livenessProbe: {{ include "tallystream.probe" (dict "path" "/live" "probe" $root.Values.probes.liveness) }}
      readinessProbe: {{ include "tallystream.probe" (dict "path" "/ready" "probe" $root.Values.probes.readiness) }}
      resources: {{ toJson .resources }}
      volumeMounts:
        {{- include "tallystream.mounts" $root | nindent 8 }}
  volumes:
    {{- include "tallystream.volumes" (dict "root" $root "all" true "settings" .configMap "dsnSecret" (default (include "tallystream.fullname" $root) $root.Values.postgres.existingSecret) "dsnKey" $root.Values.postgres.dsnKey) | nindent 4 }}
{{- end -}}
