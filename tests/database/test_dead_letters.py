"""Dead letters tried again or given up: what was wrong with the world may have been put right, events never change."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from ingest.domain.decoding import Decoder
from ingest.domain.plans import Outcome
from ingest.domain.registers import Dimension, Kind, Register, Resource
from ingest.errors import RegisterError, RegistryChangedError
from ingest.postgres import dead_letters, registers
from ingest.postgres.dead_letters import Retried, Selection
from tests.support.events import INVENTORY
from tests.support.pipeline import Consumer, Document, Pipeline, line, movement, repost, unpost
from tests.support.sessions import Running, holding, wait_for_waiters

Pipelines = Callable[..., Pipeline]

HUGE = 2**63 - 1
COUNTERS = Register("counters", Kind.BALANCE, (Dimension("name", "text"),), (Resource("hits", "bigint"),))
LATER = replace(INVENTORY, name="later")


def hit(recorder: str, hits: int, name: str = "n") -> Document:
    """A movement of `COUNTERS`."""
    return movement(recorder, {"name": name, "hits": hits}, register="counters")


def retry(
    pipeline: Pipeline, ids: tuple[int, ...] | None = None, reason: str | None = None, page: int = 500
) -> Retried:
    """What `tallystream dead-letters retry` does."""
    pipeline.reload()
    decoder = Decoder(pipeline.registry.registers)
    selection = Selection(ids, reason)
    return dead_letters.retry_dead_letters(pipeline.access, pipeline.registry, decoder.decode, selection, page)


def states(pipeline: Pipeline) -> list[tuple[int, str, str]]:
    """Offset, state and reason of each dead letter."""
    return pipeline.rows("SELECT event_offset, state, reason FROM _dead_letters ORDER BY id")


@pytest.fixture
def refused(pipeline: Pipeline) -> tuple[Pipeline, Consumer]:
    """Five refused records: three of a register that is declared since then, one that never will be, one garbage."""
    consumer = pipeline.consumer()
    pipeline.send(
        movement("r1", line(1, "5"), register="later"),
        b"garbage",
        movement("r2", line(1, "7"), line(2, "1"), register="later"),
        repost("r1", line(3, "1"), register="later"),
        unpost("r1", register="never"),
    )
    consumer.apply()
    assert [row[1:] for row in states(pipeline)] == [
        ("waiting", "unknown_register"),
        ("waiting", "not_json"),
        ("waiting", "unknown_register"),
        ("waiting", "unknown_register"),
        ("waiting", "unknown_register"),
    ]
    registers.apply_registers(pipeline.access, [LATER])
    return pipeline, consumer


def test_what_can_be_applied_now_is_applied(refused: tuple[Pipeline, Consumer]) -> None:
    """Oldest first, in one transaction; what is refused again stays, and both are reported."""
    pipeline, _ = refused
    retried = retry(pipeline)
    assert (retried.settled, retried.movements) == (3, 3)
    assert [(dead_letter_id, refusal.reason.value) for dead_letter_id, refusal in retried.refused] == [
        (2, "not_json"),
        (5, "unknown_register"),
    ]
    assert [row[1] for row in states(pipeline)] == ["retried", "waiting", "retried", "retried", "waiting"]
    assert pipeline.balances("later") == {(1, 3, "A"): 1, (1, 1, "A"): 7, (1, 2, "A"): 1}
    assert pipeline.rows("SELECT DISTINCT topic, partition FROM later_journal") == [("events", 0)]
    pipeline.check()


def test_a_second_retry_changes_nothing(refused: tuple[Pipeline, Consumer]) -> None:
    """What was settled is settled."""
    pipeline, _ = refused
    retry(pipeline)
    balances = pipeline.balances("later")
    again = retry(pipeline)
    assert (again.settled, again.movements, len(again.refused)) == (0, 0, 2)
    assert pipeline.balances("later") == balances


def test_only_what_was_selected_is_tried(refused: tuple[Pipeline, Consumer]) -> None:
    """By id, or by reason."""
    pipeline, _ = refused
    assert retry(pipeline, ids=(3,)).settled == 1
    assert [row[1] for row in states(pipeline)] == ["waiting", "waiting", "retried", "waiting", "waiting"]
    assert retry(pipeline, reason="not_json").settled == 0
    assert retry(pipeline, reason="unknown_register").settled == 2


def test_events_that_came_in_another_way_are_duplicates(refused: tuple[Pipeline, Consumer]) -> None:
    """A dead letter whose event was produced again meanwhile is settled without doing anything."""
    pipeline, consumer = refused
    pipeline.reload()
    pipeline.send(movement("r2", line(1, "7"), line(2, "1"), register="later"))
    assert consumer.apply().outcomes == {Outcome.APPLIED: 1}
    retried = retry(pipeline, ids=(3,))
    assert (retried.settled, retried.movements) == (1, 0)
    assert pipeline.balances("later") == {(1, 1, "A"): 7, (1, 2, "A"): 1}
    pipeline.check()


def test_a_repost_that_comes_late_is_judged_by_its_revision(pipelines: Pipelines) -> None:
    """With revisions, an old dead letter cannot undo what was applied since."""
    pipeline = pipelines()
    consumer = pipeline.consumer()
    pipeline.send(repost("r1", line(1, "1"), revision=1, register="later"))
    consumer.apply()
    registers.apply_registers(pipeline.access, [LATER])
    pipeline.reload()
    pipeline.send(repost("r1", line(1, "2"), revision=2, register="later"))
    consumer.apply()
    assert retry(pipeline).settled == 1
    assert pipeline.balances("later") == {(1, 1, "A"): 2}


def test_data_errors_are_found_one_by_one(pipelines: Pipelines) -> None:
    """When the database refuses one of many, the others are applied, and the one says what PostgreSQL said."""
    pipeline = pipelines([INVENTORY])
    consumer = pipeline.consumer()
    pipeline.send(hit("a", 1), hit("b", HUGE), hit("c", 2), b"garbage", hit("d", 3))
    consumer.apply()
    registers.apply_registers(pipeline.access, [COUNTERS])
    retried = retry(pipeline)
    assert (retried.settled, retried.movements) == (3, 3)
    reasons = {dead_letter_id: refusal.reason.value for dead_letter_id, refusal in retried.refused}
    assert reasons == {2: "refused_by_database", 4: "not_json"}
    assert [row[1] for row in states(pipeline)] == ["retried", "waiting", "retried", "waiting", "retried"]
    shown = dead_letters.show_dead_letter(pipeline.access, 2)
    assert (shown["reason"], shown["sqlstate"], shown["recorder"]) == ("refused_by_database", "22003", "b")
    assert pipeline.balances("counters", "hits") == {("n",): 6}
    # What was in the way may go: then the same letter passes.
    pipeline.reload()
    pipeline.send(unpost("a", register="counters"), unpost("c", register="counters"), unpost("d", register="counters"))
    consumer.apply()
    assert retry(pipeline, ids=(2,)).settled == 1
    assert pipeline.balances("counters", "hits") == {("n",): HUGE}
    assert dead_letters.show_dead_letter(pipeline.access, 2)["state"] == "retried"
    pipeline.check()


def test_more_than_one_page(pipelines: Pipelines) -> None:
    """Thousands are tried in transactions of bounded size; none is left out and none is tried twice."""
    pipeline = pipelines([INVENTORY])
    consumer = pipeline.consumer()
    pipeline.send(*[hit(f"r{n}", HUGE if n == 12 else 1) if n % 5 else b"garbage" for n in range(30)])
    consumer.apply()
    registers.apply_registers(pipeline.access, [COUNTERS])
    retried = retry(pipeline, page=7)
    assert retried.settled == 23
    assert len(retried.refused) == 7
    assert pipeline.balances("counters", "hits") == {("n",): 23}
    pipeline.check()


def test_one_record_refused_by_two_groups(pipelines: Pipelines) -> None:
    """Both dead letters of it are settled: the event is applied once, and is a duplicate the second time."""
    pipeline = pipelines([INVENTORY])
    pipeline.send(hit("a", 5))
    pipeline.consumer().apply()
    other = Consumer(pipeline, pipeline.store(group="another group"))
    other.claim()
    other.apply()
    registers.apply_registers(pipeline.access, [COUNTERS])
    retried = retry(pipeline)
    assert (retried.settled, retried.movements) == (2, 1)
    assert [row[1] for row in states(pipeline)] == ["retried", "retried"]
    assert pipeline.balances("counters", "hits") == {("n",): 5}


def test_two_retries_at_once(refused: tuple[Pipeline, Consumer]) -> None:
    """What one session is trying, another leaves alone."""
    pipeline, _ = refused
    with holding(pipeline.database, "LOCK TABLE later_movements IN SHARE MODE"):
        one = Running(lambda: retry(pipeline))
        wait_for_waiters(pipeline.database)
        assert retry(pipeline).settled == 0
    assert one.result().settled == 3
    pipeline.check()


def test_a_register_changed_meanwhile(refused: tuple[Pipeline, Consumer]) -> None:
    """A retry under declarations that are not the present ones does nothing, and says so."""
    pipeline, _ = refused
    pipeline.reload()
    old = pipeline.registry
    registers.apply_registers(pipeline.access, [COUNTERS])
    with pytest.raises(RegistryChangedError, match="run the command again"):
        dead_letters.retry_dead_letters(pipeline.access, old, Decoder(old.registers).decode, Selection())
    assert {row[1] for row in states(pipeline)} == {"waiting"}


def test_given_up_letters_stay(refused: tuple[Pipeline, Consumer]) -> None:
    """Dropping is a decision with a reason; the row stays, and no retry takes it up again."""
    pipeline, _ = refused
    assert dead_letters.drop_dead_letters(pipeline.access, [1, 2, 99], "typing errors") == 2
    assert dead_letters.drop_dead_letters(pipeline.access, [1], "again") == 0
    shown = dead_letters.show_dead_letter(pipeline.access, 1)
    assert (shown["state"], shown["settled_note"]) == ("dropped", "typing errors")
    assert retry(pipeline).settled == 2
    assert dead_letters.count_dead_letters(pipeline.access) == [
        ("dropped", "not_json", 1),
        ("dropped", "unknown_register", 1),
        ("retried", "unknown_register", 2),
        ("waiting", "unknown_register", 1),
    ]


def test_a_letter_that_is_not_there(pipeline: Pipeline) -> None:
    """The message names it, and says how to find those there are."""
    with pytest.raises(RegisterError, match="no dead letter 7"):
        dead_letters.show_dead_letter(pipeline.access, 7)
