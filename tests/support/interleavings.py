"""Sessions that meet in every order there is: two or three of them, step by step, against a real PostgreSQL.

A `Script` is one transaction: a statement, and the commit. Its statement can be held up on its way, at the first write
to a table or wherever it calls `meet.pause`; each stretch between two such points is a step, and so is the commit.
A `Stage` runs scripts through all interleavings of their steps. A session that waits for another one is no choice
until the other has let it go, as in PostgreSQL's own isolation tester; nothing here sleeps for a length of time.

    stage = Stage(database, reset)
    post = Script("post", "SELECT register_post('stock', %s)", (data,), ("stock_movements", "stock_balance_cache"))
    for ending in stage.interleave(post, repost): ...
    stage.serial(post, repost)      # the endings of one after the other, in each order

How sessions are held up: triggers that a test adds to the tables (`Stage.watch`) take an advisory lock that the stage
holds, under a number that only that session and that point have.
"""

import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import psycopg
from psycopg.types.json import Jsonb

from tests.support.postgres import SCHEMA, SEARCH_PATH, Database

Rows: TypeAlias = list[tuple[Any, ...]]
Choose: TypeAlias = Callable[[Sequence[int]], int]

MOST_SESSIONS: Final = 3
LOOK_AGAIN_AFTER_S: Final = 0.002
GIVE_UP_AFTER_LOOKS: Final = 20_000

PAUSES: Final = """
    CREATE SCHEMA meet;
    CREATE FUNCTION meet.pause(p_point text) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        IF current_setting('meet.actor', true) <> '' THEN
            PERFORM pg_advisory_xact_lock_shared(current_setting('meet.actor')::int, hashtext(p_point));
        END IF;
        RETURN true;
    END
    $$;
    CREATE FUNCTION meet.pause_at_table() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM meet.pause(tg_table_name);
        RETURN NULL;
    END
    $$;
"""
# Who waits, and for whom; a session that waits for nobody is not in the answer.
WAITING: Final = """
    SELECT a.pid, b.pids FROM unnest(%s::int[]) AS a (pid), pg_blocking_pids(a.pid) AS b (pids) WHERE b.pids <> '{}'
"""


@dataclass(frozen=True, slots=True)
class Script:
    """One transaction of one session."""

    name: str
    statement: str
    parameters: tuple[object, ...] = ()
    pauses: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[str, ...]:
        """Up to each pause, to the end of the statement, and the commit."""
        points = (*self.pauses, "its end", "the commit")
        return tuple(f"{self.name} to {point}" for point in points)


@dataclass(frozen=True, slots=True)
class Ending:
    """What an interleaving came to."""

    order: tuple[str, ...]
    answers: tuple[Hashable, ...]
    """Of each script, in the order in which they were given: its rows, or the SQLSTATE that it failed with."""


@dataclass(slots=True)
class _Actor:
    """A session that goes through a script."""

    number: int
    connection: psycopg.Connection
    script: Script | None = None
    done: int = 0
    answer: Hashable = None
    running: Future[None] | None = None
    blockers: frozenset[int] = frozenset()

    @property
    def pid(self) -> int:
        return self.connection.info.backend_pid

    @property
    def left(self) -> bool:
        return self.script is not None and self.done < len(self.script.steps)

    def execute(self) -> None:
        assert self.script is not None
        try:
            cursor = self.connection.execute(
                self.script.statement.encode(), list(map(_adapted, self.script.parameters))
            )
            self.answer = tuple(cursor.fetchall())
        except psycopg.Error as error:
            self.answer = error.sqlstate
            self.connection.rollback()

    def commit(self) -> None:
        try:
            self.connection.commit()
        except psycopg.Error as error:
            self.answer = error.sqlstate
            self.connection.rollback()


@dataclass(slots=True)
class Stage:
    """Where sessions meet. `reset` brings the database to where every interleaving begins."""

    database: Database
    reset: Callable[[], None]
    _control: psycopg.Connection = field(init=False)
    _actors: list[_Actor] = field(init=False)
    _threads: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._control = self.database.connect(prepare_threshold=None)
        self._control.execute(PAUSES)
        self._threads = ThreadPoolExecutor(MOST_SESSIONS)
        self._actors = [_Actor(number, self._session(number)) for number in range(MOST_SESSIONS)]

    def close(self) -> None:
        self._threads.shutdown()
        for connection in (self._control, *(actor.connection for actor in self._actors)):
            connection.close()

    def watch(self, *tables: str) -> None:
        """Lets scripts pause where they first write to these tables."""
        for table in tables:
            self._control.execute(
                f"CREATE OR REPLACE TRIGGER pause BEFORE INSERT OR UPDATE OR DELETE ON {SCHEMA}.{table}"
                " FOR EACH STATEMENT EXECUTE FUNCTION meet.pause_at_table()".encode()
            )

    def interleave(self, *scripts: Script) -> Iterator[Ending]:
        """The endings of all interleavings; what the database is like after each is to be seen before the next."""
        return explore(lambda choose: self._play(scripts, choose))

    def serial(self, *scripts: Script) -> Iterator[Ending]:
        """The endings of one script after the other, in each order."""
        for order in itertools.permutations(range(len(scripts))):

            def first_of(able: Sequence[int], order: tuple[int, ...] = order) -> int:
                return min(able, key=order.index)

            yield self._play(scripts, first_of)

    def _session(self, number: int) -> psycopg.Connection:
        options = f"{SEARCH_PATH} -c meet.actor={number}"
        return self.database.connect(autocommit=False, prepare_threshold=None, options=options)

    def _play(self, scripts: Sequence[Script], choose: Choose) -> Ending:
        self.reset()
        actors = self._actors[: len(scripts)]
        for actor, script in zip(actors, scripts, strict=True):
            actor.script, actor.done, actor.answer = script, 0, None
            for point in script.pauses:
                self._control.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [actor.number, point])
        order: list[str] = []
        while any(actor.left for actor in actors):
            self._settle(actors)
            number = choose(self._able(actors))
            order.append(self._advance(actors[number]))
        self._settle(actors)
        return Ending(tuple(order), tuple(actor.answer for actor in actors))

    def _able(self, actors: Sequence[_Actor]) -> list[int]:
        """Sessions that have a next step and do not wait for another session."""
        mine = frozenset({self._control.info.backend_pid})
        for _ in range(GIVE_UP_AFTER_LOOKS):
            able = [actor.number for actor in actors if actor.left and actor.blockers <= mine]
            if able:
                return able
            # A ring of waits: PostgreSQL ends it after its deadlock_timeout, and the error will be in the answer.
            wait([actor.running for actor in actors if actor.running], LOOK_AGAIN_AFTER_S, FIRST_COMPLETED)
            self._settle(actors)
        raise TimeoutError("every session waits for another one")

    def _advance(self, actor: _Actor) -> str:
        """Has a session begin its next step."""
        assert actor.script is not None
        pauses, step = actor.script.pauses, actor.done
        actor.done += 1
        if 0 < step <= len(pauses):
            self._control.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", [actor.number, pauses[step - 1]])
        if step == 0:
            actor.running = self._threads.submit(actor.execute)
        elif step == len(pauses) + 1:
            actor.running = self._threads.submit(actor.commit)
        return f"{actor.number}: {actor.script.steps[step]}"

    def _settle(self, actors: Sequence[_Actor]) -> None:
        """Returns when every session is idle, or waits for one that is."""
        known = {self._control.info.backend_pid, *(actor.pid for actor in actors)}
        for _ in range(GIVE_UP_AFTER_LOOKS):
            busy = [actor for actor in actors if actor.running and not actor.running.done()]
            waiting = self._waiting(busy)
            if all(actor.pid in waiting and known.issuperset(waiting[actor.pid]) for actor in busy) and not any(
                actor.running and actor.running.done() for actor in busy
            ):
                for actor in actors:
                    actor.blockers = frozenset(waiting.get(actor.pid, ()))
                    if actor not in busy:
                        actor.running = None
                return
            wait([actor.running for actor in busy if actor.running], LOOK_AGAIN_AFTER_S, FIRST_COMPLETED)
        raise TimeoutError("a session neither ends its step nor waits")

    def _waiting(self, actors: Sequence[_Actor]) -> dict[int, list[int]]:
        rows = self._control.execute(WAITING, [[actor.pid for actor in actors]]).fetchall() if actors else []
        return dict(rows)


def explore(play: Callable[[Choose], Ending]) -> Iterator[Ending]:
    """Plays again and again, until at every point every choice has been made."""
    chosen: list[int] = []
    while True:
        taken: list[tuple[int, int]] = []

        def choose(options: Sequence[int]) -> int:
            position = chosen[len(taken)] if len(taken) < len(chosen) else 0  # noqa: B023 - called within this round
            position = min(position, len(options) - 1)
            taken.append((position, len(options)))  # noqa: B023 - the same
            return options[position]

        yield play(choose)
        while taken and taken[-1][0] + 1 >= taken[-1][1]:
            taken.pop()
        if not taken:
            return
        chosen = [position for position, _ in taken]
        chosen[-1] += 1


def _adapted(parameter: object) -> object:
    return Jsonb(parameter) if isinstance(parameter, dict | list) else parameter
