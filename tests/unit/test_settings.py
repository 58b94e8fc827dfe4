"""Settings: what is accepted, what is refused with which words, and where each value comes from."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from ingest.errors import SettingsError
from ingest.settings import Loaded, Settings, read_settings


def _read(variables: Mapping[str, str], config: Path | None = None) -> Loaded:
    return read_settings({f"TALLYSTREAM_{name}": value for name, value in variables.items()}, config)


ACCEPTED = [
    ({"TOPICS": "sales"}, "topics", ("sales",)),
    ({"TOPICS": " sales, stock ,"}, "topics", ("sales", "stock")),
    ({"TOPICS": ""}, "topics", ()),
    ({"BATCH_MAX_EVENTS": "5"}, "batch_max_events", 5),
    ({"GROUP_PROTOCOL": "consumer"}, "group_protocol", "consumer"),
    ({"KAFKA_OPTIONS": '{"sasl.mechanism": "PLAIN"}'}, "kafka_options", {"sasl.mechanism": "PLAIN"}),
    ({"KAFKA_OPTION_SASL_MECHANISM": "PLAIN"}, "kafka_options", {"sasl.mechanism": "PLAIN"}),
    (
        {"KAFKA_OPTIONS": '{"client.rack": "a", "client.id": "x"}', "KAFKA_OPTION_CLIENT_RACK": "b"},
        "kafka_options",
        {"client.rack": "b", "client.id": "x"},
    ),
    ({"KAFKA_OPTIONS": '{"check.crcs": true}'}, "kafka_options", {"check.crcs": "true"}),
    ({"KAFKA_OPTIONS": '{"linger.ms": 5}'}, "kafka_options", {"linger.ms": "5"}),
    # Kubernetes tells every pod about a service of that name; the tests have variables of their own.
    ({"SERVICE_HOST": "10.0.0.1", "PORT": "tcp://10.0.0.1:80", "PORT_80_TCP_ADDR": "10.0.0.1"}, "group", "tallystream"),
    ({"METRICS_SERVICE_PORT_HTTP": "80", "TEST_ANYTHING": "1"}, "group", "tallystream"),
]  # fmt: skip

REFUSED = [
    ({"TOPIC": "sales"}, "TALLYSTREAM_TOPIC: there is no such setting; did you mean topics?"),
    ({"XYZZY": "1"}, "TALLYSTREAM_XYZZY: there is no such setting; `tallystream settings` lists all there are"),
    ({"BATCH_MAX_EVENTS": "0"}, "batch_max_events (environment TALLYSTREAM_BATCH_MAX_EVENTS): input should be"),
    ({"BATCH_MAX_EVENTS": "0"}, "greater than or equal to 1, and it is '0'"),
    ({"TOPICS": "^sales.*"}, "'^sales.*' is not a topic name"),
    ({"TOPICS": "a,b,a"}, "a topic is named twice"),
    ({"SCHEMA_NAME": "a;b"}, "schema_name (environment TALLYSTREAM_SCHEMA_NAME)"),
    ({"KAFKA_OPTIONS": "sasl.mechanism=PLAIN"}, "TALLYSTREAM_KAFKA_OPTIONS) is not a JSON object"),
    ({"KAFKA_OPTIONS": "[]"}, "TALLYSTREAM_KAFKA_OPTIONS) is not a JSON object"),
    ({"KAFKA_OPTIONS": '{"client.id": null}'}, "kafka_options.client.id (environment TALLYSTREAM_KAFKA_OPTIONS)"),
    ({"RETRY_INITIAL_MS": "20000"}, "retry_initial_ms (20000) must not be greater than retry_max_ms (10000)"),
    ({"LOCK_TIMEOUT_MS": "130000"}, "lock_timeout_ms (130000) must not be greater than statement_timeout_ms"),
    ({"MAX_POLL_INTERVAL_MS": "8000"}, "session_timeout_ms (45000) must not be greater than max_poll_interval_ms"),
    (
        {"MAX_POLL_INTERVAL_MS": "8000", "SESSION_TIMEOUT_MS": "6000"},
        "revoke_budget_ms (10000) must not be greater than max_poll_interval_ms (8000)",
    ),
    ({"POSTGRES_DSN_FILE": "/no/such/file"}, "/no/such/file cannot be read: No such file or directory"),
    ({"POSTGRES_DSN": "a", "POSTGRES_DSN_FILE": "b"}, "are both set: remove one of them"),
    ({"CONFIG": "/no/such/file"}, "/no/such/file cannot be read: No such file or directory"),
]  # fmt: skip


@pytest.mark.parametrize(("variables", "name", "value"), ACCEPTED)
def test_values_from_the_environment(variables: dict[str, str], name: str, value: object) -> None:
    """What the environment may say, and what it means."""
    assert getattr(_read(variables).settings, name) == value


@pytest.mark.parametrize(("variables", "message"), REFUSED)
def test_a_wrong_setting_is_refused_by_name(variables: dict[str, str], message: str) -> None:
    """The message names the setting, where it was set, and what is wrong with it."""
    with pytest.raises(SettingsError) as refused:
        _read(variables)
    assert message in str(refused.value)


def test_all_mistakes_are_told_at_once() -> None:
    """One start tells everything there is to correct."""
    with pytest.raises(SettingsError) as refused:
        _read({"BATCH_MAX_EVENTS": "0", "LOG_LEVEL": "loud", "GROUP_PROTOCOL": "both"})
    assert len(str(refused.value).splitlines()) == 3


def test_no_message_repeats_a_secret() -> None:
    """Not the connection string, not an option's value, whatever is wrong with them."""
    with pytest.raises(SettingsError) as refused:
        _read({"KAFKA_OPTIONS": '{"sasl.password": ["geheim"]}', "POSTGRES_DSN": "geheim", "LOG_LEVEL": "loud"})
    assert "geheim" not in str(refused.value)
    with pytest.raises(SettingsError) as refused:
        _read({"SCHEMA_REGISTRY_URL": "https://shop:geheim@registry:8081"})
    assert "belong in schema_registry_user and schema_registry_password" in str(refused.value)
    assert "geheim" not in str(refused.value)
    assert "geheim" not in repr(Settings(kafka_options={"sasl.password": "geheim"}))


def test_a_secret_from_a_file(tmp_path: Path) -> None:
    """The file's content without its last line break, as secrets are mounted."""
    (tmp_path / "dsn").write_text("postgresql://app:geheim@db/shop\n", encoding="utf-8")
    (tmp_path / "password").write_text("geheim", encoding="utf-8")
    files = {"POSTGRES_DSN_FILE": "dsn", "KAFKA_OPTION_SASL_PASSWORD_FILE": "password"}
    loaded = _read({variable: str(tmp_path / name) for variable, name in files.items()})
    assert loaded.settings.postgres_dsn.get_secret_value() == "postgresql://app:geheim@db/shop"
    assert loaded.settings.kafka_options == {"sasl.password": "geheim"}


TOML = """
group = "from-file"
topics = ["sales", "stock"]
batch_max_events = 7

[kafka_options]
sasl.mechanism = "PLAIN"
"client.rack" = "a"
socket.keepalive.enable = true
"""


def test_a_file_and_the_environment(tmp_path: Path) -> None:
    """The environment wins; each value is remembered with its origin."""
    config = tmp_path / "tallystream.toml"
    config.write_text(TOML, encoding="utf-8")
    loaded = _read({"GROUP": "from-environment", "KAFKA_OPTION_CLIENT_RACK": "b"}, config)
    settings = loaded.settings
    assert (settings.group, settings.topics, settings.batch_max_events) == ("from-environment", ("sales", "stock"), 7)
    assert settings.kafka_options == {
        "sasl.mechanism": "PLAIN",
        "client.rack": "b",
        "socket.keepalive.enable": "true",
    }
    assert loaded.origins["group"] == "environment TALLYSTREAM_GROUP"
    assert loaded.origins["topics"] == str(config)
    assert loaded.origins["kafka_options.client.rack"] == "environment TALLYSTREAM_KAFKA_OPTION_CLIENT_RACK"
    assert loaded.origins["kafka_options.sasl.mechanism"] == str(config)
    assert "batch_max_bytes" not in loaded.origins


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("group = ", "is not valid TOML"),
        ("topic = 'sales'", "topic: there is no such setting; did you mean topics?"),
        ("kafka_options = 5", "kafka_options ("),
        ("[group]\nname = 'x'", "group ("),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """A file gets the same care as the environment, and is named."""
    config = tmp_path / "tallystream.toml"
    config.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        _read({}, config)
    assert message in str(refused.value)
    assert str(config) in str(refused.value)


def test_what_a_command_needs_is_named() -> None:
    """A command says which of its settings are missing and how to set them."""
    with pytest.raises(SettingsError) as refused:
        Settings().require("postgres_dsn", "topics", "group")
    first, second = str(refused.value).splitlines()
    assert first.startswith(
        "postgres_dsn is not set: set TALLYSTREAM_POSTGRES_DSN, or postgres_dsn in tallystream.toml"
    )
    assert second.startswith("topics is not set")


def test_every_setting_is_described_and_bounded() -> None:
    """The reference is generated from the descriptions; a number without bounds is a limit that is missing."""
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        if field.annotation is int:
            assert {type(rule).__name__ for rule in field.metadata} >= {"Ge", "Le"}, name
