"""wait_for_event: an application reads what it has sent, as soon as it is there and not before."""

import time
from collections.abc import Callable

import psycopg
import pytest

from tests.support.pipeline import GROUP, TOPIC, Pipeline, line, movement
from tests.support.program import Program, run_tallystream
from tests.support.sessions import Running
from tests.support.waiting import wait_until

WAIT = "SELECT accum.wait_for_event(%s, %s, %s, %s, '5 ms')"
SLEEPS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"


def waited(pipeline: Pipeline, offset: int, timeout: str = "30 s", partition: int = 0, topic: str = TOPIC) -> bool:
    """What a session of its own is told."""
    with pipeline.database.connect() as session:
        row = session.execute(WAIT, [topic, partition, offset, timeout]).fetchone()
    assert row is not None
    return bool(row[0])


def test_a_session_that_waits_sees_its_event(pipeline: Pipeline) -> None:
    """It goes on when the batch is committed, not when it is written, and its next statement reads the new balance."""
    pipeline.send(movement("r1", line(1, "5")), movement("r2", line(2, "7")))
    consumer = pipeline.consumer()

    def read_own_event() -> object:
        with pipeline.database.connect(autocommit=False) as session:
            assert session.execute(WAIT, [TOPIC, 0, 1, "30 s"]).fetchone() == (True,)
            row = session.execute("SELECT accum.inventory_balance() -> 'quantity'").fetchone()
        return row and row[0]

    reader = Running(read_own_event)
    wait_until(lambda: pipeline.value(SLEEPS) == 1, 60, "the session waits")
    consumer.apply(consumer.batch(most=1))
    assert waited(pipeline, 0)
    assert not waited(pipeline, 1, "0 s")
    assert not reader.done
    consumer.apply()
    assert reader.result() == 12


def test_what_never_comes_is_waited_for_no_longer_than_asked(pipeline: Pipeline) -> None:
    """Unknown topics and partitions may still come; the answer is no, after the time that was given."""
    pipeline.send(movement("r1", line(1, "5")))
    pipeline.consumer().apply()
    started = time.monotonic()
    assert not waited(pipeline, 1, "100 ms")
    assert not waited(pipeline, 0, "0 s", partition=1)
    assert not waited(pipeline, 0, "0 s", topic="other")
    assert time.monotonic() - started >= 0.1


def test_a_group_can_be_asked_for(pipeline: Pipeline) -> None:
    """Where several groups read one topic, each has come as far as it has."""
    pipeline.send(movement("r1", line(1, "5")))
    pipeline.consumer().apply()
    asked = "SELECT wait_for_event(%s, 0, 0, '0 s', p_group => %s)"
    assert pipeline.value(asked, [TOPIC, GROUP]) is True
    assert pipeline.value(asked, [TOPIC, "other"]) is False


def test_a_refused_event_is_not_waited_for(pipeline: Pipeline) -> None:
    """It is in the dead letters by then."""
    pipeline.send(b"nonsense")
    pipeline.consumer().apply()
    assert waited(pipeline, 0, "0 s")


def test_a_snapshot_that_never_changes_cannot_wait(pipeline: Pipeline) -> None:
    """An error at once, instead of a wait that must fail; even for an event that is there."""
    pipeline.send(movement("r1", line(1, "5")))
    pipeline.consumer().apply()
    for level in ("REPEATABLE READ", "SERIALIZABLE"):
        with pipeline.database.connect() as session:
            session.execute(f"BEGIN ISOLATION LEVEL {level}")
            with pytest.raises(psycopg.Error, match="cannot be waited for") as refused:
                session.execute(WAIT, [TOPIC, 0, 0, "30 s"])
        assert refused.value.sqlstate == "TS040"


def test_parameters_are_checked(pipeline: Pipeline) -> None:
    """No wait without end, no loop without pause."""
    for parameters in (
        "NULL, 0, 0",
        "'t', NULL, 0",
        "'t', 0, NULL",
        "'t', 0, 0, NULL",
        "'t', 0, 0, '-1 s'",
        "'t', 0, 0, '61 min'",
        "'t', 0, 0, '1 s', '0 s'",
        "'t', 0, 0, '1 s', NULL",
    ):
        with pytest.raises(psycopg.Error) as refused:
            pipeline.rows(f"SELECT wait_for_event({parameters})")
        assert refused.value.sqlstate == "TS006", parameters


def test_a_script_waits_with_a_command(pipeline: Pipeline) -> None:
    """Exit code 0 when the event has been applied, 1 when the time is over, 2 when the question is none."""
    pipeline.send(movement("r1", line(1, "5")), movement("r2", line(2, "7")))
    consumer = pipeline.consumer()
    consumer.apply(consumer.batch(most=1))
    env = {"TALLYSTREAM_POSTGRES_DSN": pipeline.database.dsn}
    assert run_tallystream("wait", TOPIC, "0", "0", env=env).check().out == f"{TOPIC}[0]@0 has been applied\n"
    late = run_tallystream("wait", TOPIC, "0", "1", "--timeout", "0.2", env=env).check(1)
    assert (late.out, late.err) == ("", f"{TOPIC}[0]@1 has not been applied within 0.2 s\n")
    run_tallystream("wait", TOPIC, "0", "0", "--group", GROUP, env=env).check()
    run_tallystream("wait", TOPIC, "0", "0", "--group", "other", "--timeout", "0", env=env).check(1)
    run_tallystream("wait", TOPIC, "0", "-1", env=env).check(2)


def test_a_command_goes_on_as_soon_as_the_batch_is_committed(
    pipeline: Pipeline, program: Callable[..., Program]
) -> None:
    """It does not use up its time."""
    pipeline.send(movement("r1", line(1, "5")))
    consumer = pipeline.consumer()
    env = {"TALLYSTREAM_POSTGRES_DSN": pipeline.database.dsn}
    waiting = program("wait", TOPIC, "0", "0", "--timeout", "3600", env=env)
    waiting.wait_until(lambda: pipeline.value(SLEEPS) == 1, what="the command waits")
    consumer.apply()
    assert waiting.wait() == 0
