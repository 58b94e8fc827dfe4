"""A secret in every place where one can be: no command prints it, in results, errors, logs or the list of processes."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from tests.support.postgres import Database
from tests.support.processes import free_ports
from tests.support.program import Program, run_tallystream

CANARY = "c4n4ry-Zq7"
COMMANDS = [
    "run",
    "compact --once",
    "migrate",
    "status",
    "dead-letters list",
    "positions set t 0 --to start --reason r --yes",
    "positions resume t 0 --reason r",
    "settings",
    "--help",
    "positions set --help",
    "no-such-command",
]


def environment(dsn: str, broker: str) -> dict[str, str]:
    """Secrets in the DSN, in librdkafka's options, and in variables that are not settings."""
    return {
        "TALLYSTREAM_POSTGRES_DSN": dsn,
        "TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS": broker,
        "TALLYSTREAM_TOPICS": "t",
        "TALLYSTREAM_LOG_LEVEL": "debug",
        "TALLYSTREAM_CONNECT_TIMEOUT_MS": "1000",
        "TALLYSTREAM_KAFKA_OPTION_SECURITY_PROTOCOL": "sasl_plaintext",
        "TALLYSTREAM_KAFKA_OPTION_SASL_MECHANISM": "PLAIN",
        "TALLYSTREAM_KAFKA_OPTION_SASL_USERNAME": "shop",
        "TALLYSTREAM_KAFKA_OPTION_SASL_PASSWORD": f"sasl-{CANARY}",
        "TALLYSTREAM_KAFKA_OPTION_DEBUG": "security,broker",
        "PGPASSWORD": f"pg-{CANARY}",
        "AWS_SECRET_ACCESS_KEY": f"aws-{CANARY}",
    }


@pytest.mark.scenario("S9")
@pytest.mark.parametrize("command", COMMANDS)
def test_no_output_has_a_secret(database: Database, command: str) -> None:
    """PostgreSQL refuses the role, or nobody answers; Kafka is away in either case."""
    (port,) = free_ports(1)
    away = nobody_answers(port)
    unknown = make_conninfo(database.dsn, user="nobody_at_all", password=CANARY)
    dsn = away if command in {"status", "migrate"} else unknown
    done = run_tallystream(*command.split(), env=environment(dsn, f"127.0.0.1:{port}"), timeout_s=60)
    assert CANARY not in done.out + done.err
    assert "Traceback" not in done.err


def nobody_answers(port: int) -> str:
    """The DSN of a server that is away, with a secret in it."""
    return f"postgresql://shop:{CANARY}@127.0.0.1:{port}/shop?application_name=x"


@pytest.mark.scenario("S9")
def test_a_worker_that_waits_tells_no_secret(program: Callable[..., Program]) -> None:
    """It says why it waits, again and again."""
    (port,) = free_ports(1)
    worker = program("run", env=environment(nobody_answers(port), f"127.0.0.1:{port}"))
    worker.wait_for_log(event="PostgreSQL is not available, waiting", count=3)
    assert worker.terminate() == 0
    assert CANARY not in "\n".join(worker.lines)


@pytest.mark.scenario("S9")
def test_a_wrong_setting_does_not_print_the_others(tmp_path: Path) -> None:
    """Messages name the setting; a file with a secret in it that cannot be read as TOML is not quoted."""
    broken = tmp_path / "tallystream.toml"
    broken.write_text(f'postgres_dsn = "postgresql://a:{CANARY}@h/d\nx = [', encoding="utf-8")
    for env in (
        {"TALLYSTREAM_CONFIG": str(broken)},
        {"TALLYSTREAM_POSTGRES_DSN": f"host=h password='{CANARY}"},
        {"TALLYSTREAM_POSTGRES_DSN": f"postgresql://u:{CANARY}@[h/d"},
        {"TALLYSTREAM_KAFKA_OPTION_SASL_PASSWORD": CANARY, "TALLYSTREAM_KAFKA_OPTION_NONSENSE": CANARY},
    ):
        for command in ("settings", "status"):
            done = run_tallystream(command, env=env)
            assert CANARY not in done.out + done.err, (env, command)


@pytest.mark.scenario("S9")
def test_the_list_of_processes_has_no_secret(database: Database, program: Callable[..., Program]) -> None:
    """A worker's command line, and what it logs at its most talkative while Kafka is away."""
    (port,) = free_ports(1)
    env = environment(f"{database.dsn} application_name=tallystream", f"127.0.0.1:{port}")
    worker = program("run", env=env)
    worker.wait_for_log(event="started")
    assert CANARY.encode() not in Path(f"/proc/{worker.pid}/cmdline").read_bytes()
    worker.wait_until(lambda: any("trouble with Kafka" in line for line in worker.lines), what="trouble with Kafka")
    worker.terminate()
    assert CANARY not in "\n".join(worker.lines)


@pytest.mark.scenario("W4")
def test_a_second_signal_ends_it_at_once(database: Database, program: Callable[..., Program]) -> None:
    """Whoever asks twice does not wait for an orderly end: what is not committed is read again."""
    (port,) = free_ports(1)
    worker = program("run", env={**environment(database.dsn, f"127.0.0.1:{port}"), "TALLYSTREAM_LOG_LEVEL": "info"})
    worker.wait_for_log(event="started")
    # Two of a kind that wait to be delivered are one; two kinds are two.
    worker.pause()
    os.kill(worker.pid, signal.SIGTERM)
    os.kill(worker.pid, signal.SIGINT)
    worker.resume()
    assert worker.wait(30) in {128 + signal.SIGTERM, 128 + signal.SIGINT}
    assert worker.logged(event="stopped") == []
