"""The sweep in short: every named failpoint once, every fault everywhere it can be; `make sweep` does all of it.

What is broken, and how, is in `tests.support.sweep`.
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest

from ingest import resources
from ingest.postgres.statements import parse, statements
from tests.support.sweep import FAULTS, Bench, Case, list_failpoints, run_case
from tests.support.sweep_children import Fault, Subject

_TRANSACTION = {"BEGIN", "COMMIT", "committed"}
_CLAIM = {"identify_server", "limit_waiting", "end_hung_sessions", "lock_positions", "claim_position"}
_REGISTRY = {"speak_iso", "read_registry_version", "list_registers"}

# The failpoints of each subject. A statement that is new has to be added here, and with it to the sweep.
FAILPOINTS = {
    Subject.WORKER: {
        *_TRANSACTION,
        *_CLAIM,
        *_REGISTRY,
        "rolled back",
        "partition_bounds",
        "ensure_partitions",
        "announce_partitions",
        "begin_batch",
        "lock_recorders",
        "find_spilled_events",
        "copy_recorders",
        "copy_recorders: rows",
        "copy_recorders: end",
        "update_recorders",
        "spill_events",
        "insert_dead_letter",
        "insert_batch",
        "count_in_a_row",
        "defer_fold",
        "see_partitions",
        "delete_movements",
        "fold_now",
        "fold_later",
        "copy_movements",
        "copy_movements: rows",
        "copy_movements: end",
    },
    Subject.COMPACTOR: {
        *_TRANSACTION,
        *_REGISTRY,
        "limit_waiting",
        "list_delta_registers",
        "merge_slice",
        "vacuum_deltas",
        "pending_deltas",
        "waiting_for_cells",
        "switch_to_high_write",
        "create_partitions_ahead",
        "roll_up_batches",
        "forget_dead_letters",
        "lock_unrelayed",
        "mark_relayed",
    },
}
_MIGRATION = {
    *_TRANSACTION,
    "speak_iso",
    "limit_idling",
    "lock_migrations",
    "schema_owner",
    "become_owner",
    "enter_schema",
    "create_migrations",
    "list_migrations",
    "record_migration",
    "clear_templates",
    "store_template",
    "renew_registers",
    "migrations_exist",
    "hash_golden_rows",
    *(file.name for folder in ("internal", "api") for file in resources.files_in(resources.sql() / folder, ".sql")),
}
_MADE_ONCE = {
    "choose_owner",
    "create_schema",
    *(file.name for file in resources.files_in(resources.schema() / "migrations", ".sql")),
}
FAILPOINTS |= {Subject.INSTALLATION: _MIGRATION | _MADE_ONCE, Subject.UPGRADE: _MIGRATION}

# Statements of the swept files that no subject comes to, and why.
ELSEWHERE = {
    "describe_role": "before anything is written: tests/database/test_servers.py",
    "prevailing_reason": "a partition stops for its dead letters: tests/database/test_positions.py",
    "move_position": "a person's decision: tests/database/test_positions.py",
    "resume_position": "the same",
    "list_moves": "the same",
    "read_positions": "asked only after a fault: tests/database/test_exactly_once.py",
    "grant_new_roles": "a migration with nothing else to do: tests/database/test_roles.py",
}


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """A server to kill, and a database in the state in which each subject begins."""
    made = Bench()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def failpoints(bench: Bench) -> "dict[Subject, tuple[str, ...]]":
    """What each subject comes to when nothing fails."""
    return {subject: list_failpoints(bench, subject) for subject in Subject}


@cache
def swept_statements() -> set[str]:
    """The names in the files of a batch, the compactor, positions and migrations."""
    files = [
        resources.sql() / "statements" / f"{name}.sql" for name in ("batch", "compacting", "positions", "migrations")
    ]
    return {statement.name for file in files for statement in parse(file.read_text(encoding="utf-8"))}


def test_the_failpoints_are_the_statements_that_are_sent(failpoints: "dict[Subject, tuple[str, ...]]") -> None:
    """A statement without a failpoint fails here: every one that is sent is in the list, and the other way round."""
    for subject, names in failpoints.items():
        assert (set(names) - FAILPOINTS[subject], FAILPOINTS[subject] - set(names)) == (set(), set()), subject


def test_every_statement_is_swept_somewhere() -> None:
    """A named statement of the swept files is a failpoint of a subject, or it is said where else it is tested."""
    assert swept_statements() - set().union(*FAILPOINTS.values()) == set(ELSEWHERE) & set(statements())


def sample(subject: Subject, names: "tuple[str, ...]", rng: random.Random) -> list[Case]:
    """Every name once, at one of its places, with the faults dealt out in turn; of files of functions only some."""
    places: dict[str, list[int]] = {}
    for at, name in enumerate(names):
        places.setdefault(name, []).append(at)
    order = sorted(places)
    rng.shuffle(order)
    if subject is Subject.UPGRADE:
        order = [name for name in order if name in {"renew_registers", "record_migration", "COMMIT"}]
    files = [name for name in order if name.endswith(".sql")]
    order = [name for name in order if name not in files[3:]]
    # Each hang costs a time-out, so there is one.
    faults = [fault for fault in FAULTS[subject] if fault is not Fault.HANG]
    rng.shuffle(faults)
    cases = [
        Case(subject, faults[number % len(faults)], rng.choice(places[name]), name) for number, name in enumerate(order)
    ]
    hang = rng.choice(cases)
    return [*cases, replace(hang, fault=Fault.HANG)]


@pytest.mark.slow
@pytest.mark.scenario("W1", "W2", "W11", "P1", "P2", "P3", "P4", "N1", "N2", "C1", "O2", "B4")
@pytest.mark.parametrize("subject", Subject)
def test_whatever_fails_the_work_is_done_once(
    bench: Bench, failpoints: "dict[Subject, tuple[str, ...]]", rng: random.Random, subject: Subject
) -> None:
    """After an exception, kill -9 of either side, a broken or mute connection, a hang: as if nothing had happened."""
    cases = sample(subject, failpoints[subject], rng)
    assert subject is Subject.UPGRADE or {case.fault for case in cases} == set(FAULTS[subject])
    for case in cases:
        run_case(bench, case)


@pytest.mark.slow
@pytest.mark.scenario("N5")
@pytest.mark.parametrize("name", ["lock_recorders", "insert_dead_letter", "copy_movements: rows"])
def test_a_process_that_stands_still_keeps_no_locks(
    bench: Bench, failpoints: "dict[Subject, tuple[str, ...]]", name: str
) -> None:
    """Within a COPY and a pipeline, and after one, no time-out of PostgreSQL's own would end its session."""
    at = len(failpoints[Subject.WORKER]) - 1 - failpoints[Subject.WORKER][::-1].index(name)
    assert run_case(bench, Case(Subject.WORKER, Fault.HANG, at, name)) == name
