"""The schema of the Helm chart's values: an unknown key is refused, and settings are those that the program has."""

import json
from typing import Any

from ingest.settings import Settings

JsonSchema = dict[str, Any]

# What the chart sets by itself, from other values.
OF_THE_CHART = frozenset(
    {"postgres_dsn", "kafka_bootstrap_servers", "kafka_options", "topics", "group", "http_host", "http_port"}
)
# Plain words for what `consumers.NAME.batch` sets.
BATCH = ("batch_max_movements", "batch_max_events", "batch_max_bytes", "flush_after_ms")

TEXT: JsonSchema = {"type": "string"}
FLAG: JsonSchema = {"type": "boolean"}
# The names of other objects of a release end in these words.
NAME: JsonSchema = {
    "type": "string",
    "pattern": "^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$",
    "not": {"enum": ["compactor", "dashboard", "metrics", "migrate", "migrate-registers"]},
}
FILE: JsonSchema = {"type": "string", "pattern": r"^[a-z0-9][a-z0-9._-]*\.toml$"}
COUNT: JsonSchema = {"type": "integer", "minimum": 0}
POSITIVE: JsonSchema = {"type": "integer", "minimum": 1}
PORT: JsonSchema = {"type": "integer", "minimum": 1, "maximum": 65535}
DURATION: JsonSchema = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}
# What Kubernetes defines: the API server checks it.
OF_KUBERNETES: JsonSchema = {"type": "object"}
TEXTS: JsonSchema = {"type": "object", "additionalProperties": TEXT}
LIST: JsonSchema = {"type": "array"}


def values_schema() -> str:
    """What helm/tallystream/values.schema.json holds."""
    properties = {
        "global": OF_KUBERNETES,  # Helm gives it to every chart that is a part of another
        "nameOverride": TEXT,
        "fullnameOverride": TEXT,
        "image": _image(),
        "postgres": _object(dict.fromkeys(("existingSecret", "dsnKey", "ownerDsnKey", "dsn", "ownerDsn"), TEXT)),
        "kafka": _kafka(),
        "settings": {"$ref": "#/$defs/settings"},
        "secretSettings": _object({"existingSecret": TEXT, "keys": _secrets()}),
        "registers": {"$ref": "#/$defs/registers"},
        "consumers": {"type": "object", "propertyNames": NAME, "additionalProperties": {"$ref": "#/$defs/consumer"}},
        "consumerDefaults": _object({"resources": OF_KUBERNETES}),
        "compactor": _object({"enabled": FLAG, "replicas": COUNT, **_component()}),
        "migration": _object(
            {"enabled": FLAG, "backoffLimit": COUNT, "activeDeadlineSeconds": POSITIVE, **_component()}
        ),
        "http": _object({"port": PORT}),
        "probes": _object(dict.fromkeys(("startup", "liveness", "readiness"), OF_KUBERNETES)),
        "serviceAccount": _object({"create": FLAG, "name": TEXT, "annotations": TEXTS}),
        "pod": _pod(),
        "podDisruptionBudget": _object({"enabled": FLAG, "maxUnavailable": {"type": ["integer", "string"]}}),
        "networkPolicy": _network_policy(),
        "monitoring": _monitoring(),
    }
    definitions = {"settings": _settings(), "registers": _registers(), "consumer": _consumer()}
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", **_object(properties), "$defs": definitions}
    return json.dumps(schema, indent=2) + "\n"


def _object(properties: JsonSchema, *required: str) -> JsonSchema:
    closed = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**closed, "required": list(required)} if required else closed


def _image() -> JsonSchema:
    return _object(
        {
            "repository": {"type": "string", "minLength": 1},
            "tag": TEXT,
            "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
            "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
            "pullSecrets": {"type": "array", "items": _object({"name": TEXT}, "name")},
        }
    )


def _kafka() -> JsonSchema:
    option = {"type": ["string", "integer", "boolean"]}
    return _object(
        {
            "bootstrapServers": TEXT,
            "options": {"type": "object", "additionalProperties": option},
            "existingSecret": TEXT,
            "secretOptions": TEXTS,
        }
    )


def _component() -> JsonSchema:
    return {"settings": {"$ref": "#/$defs/settings"}, "resources": OF_KUBERNETES}


def _consumer() -> JsonSchema:
    settings = _settings()["properties"]
    batch = {name.removeprefix("batch_"): settings[name] for name in BATCH}
    scaler = {"enabled": FLAG, "authenticationRef": TEXT}
    autoscaling = {
        "enabled": FLAG,
        "minReplicas": POSITIVE,
        "maxReplicas": POSITIVE,
        "pollingInterval": POSITIVE,
        "cooldownPeriod": COUNT,
        "kafka": _object({**scaler, "lagThreshold": POSITIVE}),
        "prometheus": _object({**scaler, "serverAddress": TEXT, "query": TEXT, "threshold": POSITIVE}),
    }
    topics = {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"pattern": "^[A-Za-z0-9._-]{1,249}$"}}
    return _object(
        {
            "topics": topics,
            "group": {"type": "string", "maxLength": 249},
            "replicas": POSITIVE,
            "registers": {"$ref": "#/$defs/registers"},
            "batch": _object(batch),
            "autoscaling": _object(autoscaling),
            **_component(),
        },
        "topics",
    )


def _pod() -> JsonSchema:
    lists = ("tolerations", "topologySpreadConstraints", "extraEnv", "extraVolumes", "extraVolumeMounts")
    texts = ("annotations", "labels", "nodeSelector")
    return _object(
        {
            **dict.fromkeys(texts, TEXTS),
            **dict.fromkeys(lists, LIST),
            "affinity": OF_KUBERNETES,
            "priorityClassName": TEXT,
        }
    )


def _network_policy() -> JsonSchema:
    ports = {"type": "array", "minItems": 1, "items": PORT}
    peers = dict.fromkeys(("ingressFrom", "postgresTo", "kafkaTo", "extraEgress"), LIST)
    return _object({"enabled": FLAG, "postgresPorts": ports, "kafkaPorts": ports, **peers})


def _monitoring() -> JsonSchema:
    plain = {"enabled": FLAG, "labels": TEXTS}
    scraped = _object({**plain, "interval": DURATION})
    return _object(
        {
            "podMonitor": scraped,
            "serviceMonitor": scraped,
            "prometheusRule": _object(plain),
            "dashboard": _object(plain),
        }
    )


def _registers() -> JsonSchema:
    return {"type": "object", "propertyNames": FILE, "additionalProperties": {"type": "string", "minLength": 1}}


def _secrets() -> JsonSchema:
    """The settings that are secrets, each with the key of a secret."""
    fields = Settings.model_json_schema()["properties"]
    names = [name for name, field in fields.items() if field.get("format") == "password" and name not in OF_THE_CHART]
    return _object({name: {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"} for name in names})


def _settings() -> JsonSchema:
    """Each setting that is no secret with its type, bounds and description; defaults are the program's."""
    fields = Settings.model_json_schema()["properties"]
    kept = {
        name: {key: value for key, value in field.items() if key not in {"default", "title"}}
        for name, field in fields.items()
        if name not in OF_THE_CHART and field.get("format") != "password"
    }
    return _object(kept)
