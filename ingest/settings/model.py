"""The settings: one field each, with its unit last in the name, a bound and a description.

The reference in the documentation is generated from this model. Rules that span several settings
are at the end.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from ingest.domain.messages import Limits
from ingest.errors import SettingsError

KIB = 1024
MIB = 1024 * KIB
SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

ENVIRONMENT_PREFIX = "TALLYSTREAM_"

# Anything else would be a pattern or a name that no broker accepts.
_TOPIC = re.compile(r"^[A-Za-z0-9._-]{1,249}$")


def _from_commas(value: object) -> object:
    return [part for item in value.split(",") if (part := item.strip())] if isinstance(value, str) else value


def _as_option_texts(value: object) -> object:
    """Let a TOML file write numbers and booleans: librdkafka takes texts."""
    if not isinstance(value, dict):
        return value
    return {name: str(v).lower() if isinstance(v, bool | int) else v for name, v in value.items()}


Topics = Annotated[tuple[str, ...], BeforeValidator(_from_commas)]
KafkaOptions = Annotated[dict[str, str], BeforeValidator(_as_option_texts)]
Milliseconds = Annotated[int, Field(ge=1, le=24 * HOUR)]


class Settings(BaseModel):
    """Everything that can be set; building one by hand reads no environment and no file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)

    # PostgreSQL
    postgres_dsn: SecretStr = Field(
        default=SecretStr(""), description="Connection string of the database, as a URI or as key=value pairs."
    )
    schema_name: str = Field(
        default="accum", pattern=r"^[a-z_][a-z0-9_]*$", max_length=40, description="Schema of all tables and functions."
    )
    allow_privileged_role: bool = Field(
        default=False,
        description="Let `run` and `compact` start as a superuser, with BYPASSRLS, or as the schema's owner, which they"
        " refuse otherwise: on a laptop.",
    )
    connect_timeout_ms: Milliseconds = Field(
        default=10 * SECOND, ge=SECOND, description="Time to connect to PostgreSQL before it counts as unreachable."
    )
    statement_timeout_ms: Milliseconds = Field(
        default=2 * MINUTE, description="Time for one SQL statement; after that the batch is tried again."
    )
    lock_timeout_ms: Milliseconds = Field(
        default=10 * SECOND, description="Time to wait for one lock; after that the batch is tried again."
    )
    maintenance_timeout_ms: Milliseconds = Field(
        default=HOUR, description="Time for one statement that verifies or rebuilds a whole register."
    )
    retry_initial_ms: Milliseconds = Field(
        default=100, description="Pause before the first retry after a transient failure; it doubles each time."
    )
    retry_max_ms: Milliseconds = Field(default=10 * SECOND, description="Longest pause between two retries.")

    # Kafka
    kafka_bootstrap_servers: str = Field(default="", description="Brokers to begin with: host:port, comma separated.")
    topics: Topics = Field(default=(), max_length=1000, description="Topics to read, comma separated.")
    group: str = Field(
        default="tallystream",
        min_length=1,
        max_length=249,
        description="Consumer group: the workers of one group share the partitions.",
    )
    group_protocol: Literal["classic", "consumer"] = Field(
        default="classic",
        description="Rebalance protocol: classic (cooperative), or consumer (KIP-848, brokers from 4.0).",
    )
    session_timeout_ms: Milliseconds = Field(
        default=45 * SECOND,
        description="Time without heartbeats after which the group gives a worker's partitions to others;"
        " with the consumer protocol the broker decides.",
    )
    max_poll_interval_ms: Milliseconds = Field(
        default=5 * MINUTE, description="Time between two polls after which a worker leaves the group."
    )
    kafka_options: KafkaOptions = Field(
        default_factory=dict,
        max_length=100,
        repr=False,  # a password may be among them
        description="Further options of librdkafka, such as sasl.mechanism; only known and harmless ones are taken.",
    )

    schema_registry_url: str = Field(
        default="",
        pattern=r"^(https?://\S+)?$",
        description="Schema registry with Confluent's API, for values that name a schema of it; none when empty.",
    )
    schema_registry_user: str = Field(default="", description="User at the schema registry, where it wants one.")
    schema_registry_password: SecretStr = Field(default=SecretStr(""), description="That user's password.")
    schema_registry_ca_file: str = Field(
        default="", description="File with the certificates to trust at the schema registry, not the usual ones."
    )
    schema_registry_timeout_ms: Milliseconds = Field(
        default=10 * SECOND, description="Time for one answer of the schema registry; then the events are read again."
    )

    # Batches
    lanes: int = Field(
        default=2,
        ge=1,
        le=16,
        description="Sessions over which batches are committed side by side; small ones go over one. A group's"
        " workers share them: each has what its share of the partitions comes to, and one at least.",
    )
    batch_max_movements: int = Field(
        default=5_000,
        ge=1,
        le=1_000_000,
        description="Movements after which a batch is applied, beside that of another lane.",
    )
    batch_max_events: int = Field(
        default=1_250,
        ge=1,
        le=1_000_000,
        description="Events after which a batch is applied, beside that of another lane.",
    )
    batch_max_bytes: int = Field(
        default=16 * MIB, ge=KIB, le=1024 * MIB, description="Bytes of events after which a batch is applied."
    )
    batch_growth: int = Field(
        default=20,
        ge=1,
        le=1000,
        description="How many times these movements and events a batch may have when the one before it is still being"
        " committed: batches grow while PostgreSQL is behind, and shrink when it is not.",
    )
    flush_after_ms: Milliseconds = Field(
        default=20, le=HOUR, description="Age of its oldest event after which a batch is applied."
    )
    max_dead_letters_in_a_row: int = Field(
        default=1000,
        ge=0,
        le=1_000_000,
        description="Dead letters one after the other at which a partition stops until `tallystream positions resume`;"
        " 0 never stops it.",
    )
    position_check_ms: Milliseconds = Field(
        default=5 * SECOND,
        description="Pause between two looks whether the positions of partitions without new events were moved.",
    )
    poll_max_messages: int = Field(default=300, ge=1, le=100_000, description="Messages to take from Kafka at a time.")
    stop_budget_ms: Milliseconds = Field(
        default=20 * SECOND, description="Time to finish the open batch after SIGTERM; then it is dropped, not lost."
    )
    revoke_budget_ms: Milliseconds = Field(
        default=10 * SECOND, description="Time to finish the open batch before a partition is given to another worker."
    )

    rebuild_hold_ms: Milliseconds = Field(
        default=5 * SECOND,
        description="Time for which a rebuild from the topic may keep the stream waiting; after that it tries again.",
    )

    # The compactor
    compact_interval_ms: Milliseconds = Field(
        default=SECOND, description="Pause of the compactor when it has folded all deltas that are old enough."
    )
    compact_min_age_ms: int = Field(
        default=SECOND, ge=0, le=24 * HOUR, description="Age of a delta before it is folded; older ones fold together."
    )
    compact_slice_deltas: int = Field(
        default=3_000, ge=1, le=1_000_000, description="Most deltas that are folded in one transaction."
    )
    compact_timeout_ms: Milliseconds = Field(
        default=10 * SECOND, description="Time for one slice of deltas; after that smaller ones are tried."
    )
    compact_alarm_ms: Milliseconds = Field(
        default=5 * MINUTE, description="Age of a pending delta at which status and the compactor's log say so aloud."
    )
    auto_high_write_waits: float = Field(
        default=1.0,
        gt=0,
        description="Mean number of sessions waiting for its cells that switches a register.",
    )
    auto_high_write_sample_ms: Milliseconds = Field(
        default=SECOND, description="Pause between two looks at who waits; about ten of them decide."
    )
    housekeeping_interval_ms: Milliseconds = Field(
        default=MINUTE, description="Pause between two rounds of partitions ahead and retention."
    )
    partitions_ahead_days: int = Field(
        default=62, ge=0, le=3660, description="Days for which the compactor makes partitions ahead."
    )
    batch_retention_days: int = Field(
        default=30,
        ge=0,
        le=36_500,
        description="Age after which batches of a partition are added up to one row; 0 keeps each for ever.",
    )
    dead_letter_retention_days: int = Field(
        default=0,
        ge=0,
        le=36_500,
        description="Age after which retried and dropped dead letters are removed; 0 keeps them for ever."
        " One that waits stays.",
    )
    dead_letter_topic: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]{0,249}$",
        description="Topic to which the compactor relays dead letters; none when empty.",
    )
    relay_interval_ms: Milliseconds = Field(
        default=5 * SECOND, description="Pause between two looks for dead letters to relay."
    )

    # Limits of one event
    max_event_bytes: int = Field(
        default=10 * MIB, ge=KIB, le=1024 * MIB, description="Largest event in bytes; a larger one is refused."
    )
    max_depth: int = Field(default=32, ge=3, le=500, description="Deepest nesting of arrays and objects in an event.")
    max_movements: int = Field(default=100_000, ge=1, le=10_000_000, description="Most movements in one event.")
    max_text_length: int = Field(
        default=1000, ge=1, le=1_000_000, description="Longest text of a dimension, in characters."
    )
    max_recorder_length: int = Field(default=200, ge=1, le=2000, description="Longest recorder, in characters.")
    max_id_length: int = Field(default=200, ge=1, le=2000, description="Longest event id, in characters.")

    # Health, metrics and the status page
    http_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        max_length=253,
        description="Address at which `run` and `compact` serve /live, /ready, /metrics and the status page;"
        " 0.0.0.0 in a container.",
    )
    http_port: int | None = Field(
        default=None,
        ge=0,
        le=65_535,
        description="Port for that; not set means the first free one from 9480 to 9489, and 0 none at all.",
    )
    live_timeout_ms: Milliseconds = Field(
        default=5 * MINUTE, description="Time without a turn of the process's loop after which /live fails."
    )

    tracing: bool = Field(
        default=False,
        description="Send a trace of each batch by OTLP over HTTP; OpenTelemetry's own variables say where to, such as"
        " OTEL_EXPORTER_OTLP_ENDPOINT. Needs the extra `tracing`.",
    )

    # Logs
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level to log.")
    log_format: Literal["auto", "human", "json"] = Field(
        default="auto", description="Form of log lines; auto is human on a terminal and json elsewhere."
    )

    @field_validator("topics")
    @classmethod
    def _topics_are_names(cls, topics: tuple[str, ...]) -> tuple[str, ...]:
        for topic in topics:
            if not _TOPIC.match(topic) or topic in {".", ".."}:
                raise ValueError(f"{topic!r} is not a topic name (letters, digits, '.', '_' and '-'; no patterns)")
        if len(set(topics)) < len(topics):
            raise ValueError("a topic is named twice")
        return topics

    @field_validator("schema_registry_url")
    @classmethod
    def _url_has_no_password(cls, url: str) -> str:
        # It is shown by `tallystream settings`, and by errors of the client.
        if "@" in url:
            raise ValueError("user and password belong in schema_registry_user and schema_registry_password")
        return url

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for smaller, larger, why in _ORDER:
            if getattr(self, smaller) > getattr(self, larger):
                raise ValueError(
                    f"{smaller} ({getattr(self, smaller)}) must not be greater than {larger}"
                    f" ({getattr(self, larger)}): {why}"
                )
        return self

    def require(self, *names: str) -> None:
        """Make sure that settings without a usable default were given, for the command that needs them."""
        missing = [name for name in names if not _given(getattr(self, name))]
        if missing:
            raise SettingsError("\n".join(_how_to_set(name) for name in missing))

    def limits(self) -> Limits:
        """Return what one event may be at most, as the decoder takes it."""
        return Limits(
            max_event_bytes=self.max_event_bytes,
            max_depth=self.max_depth,
            max_movements=self.max_movements,
            max_text_length=self.max_text_length,
            max_recorder_length=self.max_recorder_length,
            max_id_length=self.max_id_length,
        )


_ORDER = (
    ("retry_initial_ms", "retry_max_ms", "the pause between retries grows from the one to the other"),
    ("lock_timeout_ms", "statement_timeout_ms", "a statement that waits for a lock is a statement that runs"),
    ("session_timeout_ms", "max_poll_interval_ms", "librdkafka refuses that"),
    (
        "revoke_budget_ms",
        "max_poll_interval_ms",
        "the group would expel the worker while it finishes its batch",
    ),
    ("flush_after_ms", "max_poll_interval_ms", "the group would expel the worker while it fills its batch"),
    (
        "schema_registry_timeout_ms",
        "max_poll_interval_ms",
        "the group would expel the worker while it waits for a schema",
    ),
    ("statement_timeout_ms", "live_timeout_ms", "a process that waits for PostgreSQL is alive"),
)


def _given(value: object) -> bool:
    return bool(value.get_secret_value() if isinstance(value, SecretStr) else value)


def _how_to_set(name: str) -> str:
    variable = f"{ENVIRONMENT_PREFIX}{name.upper()}"
    description = (Settings.model_fields[name].description or "").rstrip(".")
    return f"{name} is not set: set {variable}, or {name} in tallystream.toml ({description})"
