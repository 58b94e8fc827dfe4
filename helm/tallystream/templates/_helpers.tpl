{{- define "tallystream.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "tallystream.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "tallystream.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tallystream.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What never changes in a release: selectors are immutable. Takes (root, component, consumer or ""). */}}
{{- define "tallystream.selector" -}}
app.kubernetes.io/name: {{ include "tallystream.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .consumer }}
tallystream/consumer: {{ . }}
{{- end }}
{{- end -}}

{{/* Of pods: what changes with the chart alone is not here, for it would restart them. */}}
{{- define "tallystream.podLabels" -}}
{{ include "tallystream.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- with .root.Values.pod.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tallystream.labels" -}}
{{ include "tallystream.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "tallystream.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tallystream.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "tallystream.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "tallystream.group" -}}
{{- default (printf "tallystream-%s" .name) .consumer.group -}}
{{- end -}}

{{/* The lag of a consumer's topics, which no other consumer reads. While a partition changes hands, two may report it. */}}
{{- define "tallystream.lagQuery" -}}
{{- $topics := list -}}
{{- range .consumer.topics }}{{ $topics = append $topics (replace "." "[.]" .) }}{{ end -}}
{{- printf "sum(max by (topic, partition) (tallystream_lag_records{namespace=%q, topic=~%q}))" .root.Release.Namespace (join "|" $topics) -}}
{{- end -}}

{{/* One value of a setting as TOML. Helm reads every number as a float; a JSON string is a TOML string. */}}
{{- define "tallystream.toml" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- printf "%.0f" . -}}
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end -}}

{{/* A settings file. Takes (root, settings): the settings of one component, which win over the common ones. */}}
{{- define "tallystream.settingsFile" -}}
{{- $all := mergeOverwrite (dict "log_format" "json") (deepCopy .root.Values.settings) (deepCopy .settings) -}}
kafka_bootstrap_servers = {{ toJson .root.Values.kafka.bootstrapServers }}
{{- range $name, $value := $all }}
{{ $name }} = {{ include "tallystream.toml" $value }}
{{- end }}
{{- with .root.Values.kafka.options }}

[kafka_options]
{{- range $name, $value := . }}
{{ toJson $name }} = {{ include "tallystream.toml" $value }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The settings of one consumer. Takes (root, name, consumer). */}}
{{- define "tallystream.consumerSettings" -}}
{{- $settings := dict "topics" .consumer.topics "group" (include "tallystream.group" .) -}}
{{- range $name, $value := default dict .consumer.batch -}}
{{- $_ := set $settings (ternary $name (printf "batch_%s" $name) (eq $name "flush_after_ms")) $value -}}
{{- end -}}
{{- include "tallystream.settingsFile" (dict "root" .root "settings" (mergeOverwrite (deepCopy (default dict .consumer.settings)) $settings)) -}}
{{- end -}}

{{/* Longer than the program takes to finish its open batch. Takes (root, settings). */}}
{{- define "tallystream.gracePeriod" -}}
{{- $budget := get (mergeOverwrite (dict "stop_budget_ms" 20000) (deepCopy .root.Values.settings) (deepCopy .settings)) "stop_budget_ms" -}}
{{- add 10 (ceil (divf (float64 $budget) 1000)) -}}
{{- end -}}

{{/* All declarations, file name to TOML: the common ones and those of each consumer. */}}
{{- define "tallystream.registers" -}}
{{- $all := deepCopy .Values.registers -}}
{{- range $name, $consumer := .Values.consumers -}}
{{- range $file, $text := default dict $consumer.registers -}}
{{- if hasKey $all $file -}}
{{- fail (printf "registers: the file name %s is used twice, once by the consumer %s; name one of them otherwise" $file $name) -}}
{{- end -}}
{{- $_ := set $all $file $text -}}
{{- end -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/* What the schema of the values cannot say. */}}
{{- define "tallystream.check" -}}
{{- if and .Values.postgres.existingSecret (or .Values.postgres.dsn .Values.postgres.ownerDsn) -}}
{{- fail "postgres: give existingSecret, or dsn and ownerDsn, not both" -}}
{{- end -}}
{{- if not (or .Values.postgres.existingSecret .Values.postgres.dsn) -}}
{{- fail "postgres: give existingSecret, the name of a secret with the connection strings" -}}
{{- end -}}
{{- if and .Values.migration.enabled .Values.postgres.dsn (not .Values.postgres.ownerDsn) -}}
{{- fail "postgres: give ownerDsn as well as dsn: the migration needs the role that owns the schema" -}}
{{- end -}}
{{- if and .Values.kafka.secretOptions (not .Values.kafka.existingSecret) -}}
{{- fail "kafka: secretOptions names keys of a secret; give existingSecret" -}}
{{- end -}}
{{- if and .Values.secretSettings.keys (not .Values.secretSettings.existingSecret) -}}
{{- fail "secretSettings: keys names keys of a secret; give existingSecret" -}}
{{- end -}}
{{- if and .Values.consumers (not .Values.kafka.bootstrapServers) -}}
{{- fail "kafka: give bootstrapServers, such as kafka-1:9092" -}}
{{- end -}}
{{- $readers := dict -}}
{{- $groups := dict -}}
{{- range $name, $consumer := .Values.consumers -}}
{{- range $topic := $consumer.topics -}}
{{- if hasKey $readers $topic -}}
{{- fail (printf "consumers: the topic %s is read by %s and by %s; its events would be applied by two groups" $topic (get $readers $topic) $name) -}}
{{- end -}}
{{- $_ := set $readers $topic $name -}}
{{- end -}}
{{- $group := include "tallystream.group" (dict "name" $name "consumer" $consumer) -}}
{{- if hasKey $groups $group -}}
{{- fail (printf "consumers: %s and %s have the same group %s; members of a group read the same topics" (get $groups $group) $name $group) -}}
{{- end -}}
{{- $_ := set $groups $group $name -}}
{{- end -}}
{{- end -}}
