{{- define "tallystream.hookFor" -}}
helm.sh/hook: {{ .events }}
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{- define "tallystream.hook" -}}
{{- include "tallystream.hookFor" (dict "events" "pre-install,pre-upgrade,pre-rollback" "weight" .) -}}
{{- end -}}

{{/* A job before an install, an upgrade or a rollback. Takes (root, name, weight, events, args, settings, secret, registers). */}}
{{- define "tallystream.job" -}}
{{- $root := .root -}}
{{- $labels := dict "root" $root "component" "migration" }}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .name }}
  labels:
    {{- include "tallystream.labels" $labels | nindent 4 }}
  annotations:
    {{- include "tallystream.hookFor" . | nindent 4 }}
spec:
  backoffLimit: {{ $root.Values.migration.backoffLimit }}
  activeDeadlineSeconds: {{ $root.Values.migration.activeDeadlineSeconds }}
  template:
    metadata:
      labels:
        {{- include "tallystream.podLabels" $labels | nindent 8 }}
      {{- with $root.Values.pod.annotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      restartPolicy: Never
      serviceAccountName: {{ include "tallystream.fullname" $root }}-migrate
      automountServiceAccountToken: false
      enableServiceLinks: false
      securityContext:
        {{- include "tallystream.podSecurity" $root | nindent 8 }}
      {{- with include "tallystream.placement" $root | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      containers:
        - name: tallystream
          image: {{ include "tallystream.image" $root }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: {{ toJson .args }}
          securityContext:
            {{- include "tallystream.containerSecurity" $root | nindent 12 }}
          env:
            {{- include "tallystream.environment" $root | nindent 12 }}
          resources: {{ toJson $root.Values.migration.resources }}
          volumeMounts:
            {{- include "tallystream.mounts" $root | nindent 12 }}
            {{- if .registers }}
            - {name: registers, mountPath: /etc/tallystream-registers, readOnly: true}
            {{- end }}
      volumes:
        {{- include "tallystream.volumes" (dict "root" $root "settings" .settings "dsnSecret" .secret "dsnKey" $root.Values.postgres.ownerDsnKey) | nindent 8 }}
        {{- if .registers }}
        - name: registers
          configMap: {name: {{ .registers }}}
        {{- end }}
{{- end -}}
