"""Rebuilds from a topic for tests of the database: the records are a pipeline's, everything else is the product's.

rebuild(pipeline, dry_run=True)                 # one that runs to its end
rebuild(pipeline, killed_at(store_of(pipeline), 17, after=True))
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from ingest.domain.decoding import Decoding
from ingest.domain.framing import refuse_framed
from ingest.domain.mapping import RegisterMapping
from ingest.domain.messages import Limits, Message
from ingest.domain.positions import LogBounds, TopicPartition
from ingest.domain.registers import Register
from ingest.postgres.rebuilding import RebuildStore
from ingest.rebuilder import Choices, Rebuilder, RebuilderLimits, Rebuilt
from tests.support.events import INVENTORY
from tests.support.pipeline import GROUP, Pipeline

HOLD_MS: Final = 20_000
BATCH: Final = 4
"""Events of a batch: a rebuild of a few dozen has many."""

# Everything of a register but when and in which order it was written.
DIGEST: Final = """
    SELECT md5(string_agg(line, E'\\n' ORDER BY line COLLATE "C")) FROM (
        SELECT 'movement ' || (to_jsonb(m) - '{id,recorded_at,batch_id}'::text[])::text AS line
        FROM inventory_movements AS m
        UNION ALL SELECT 'recorder ' || (to_jsonb(r) - 'batch_id')::text FROM inventory_recorders AS r
        WHERE r.position_id IS NOT NULL
        UNION ALL SELECT 'day ' || to_jsonb(t)::text FROM inventory_turnovers_day AS t
        UNION ALL SELECT 'month ' || to_jsonb(t)::text FROM inventory_turnovers_month AS t
        UNION ALL SELECT 'year ' || to_jsonb(t)::text FROM inventory_turnovers_year AS t
        UNION ALL SELECT 'balance ' || (to_jsonb(b) - '{last_movement_at,version}'::text[])::text
        FROM inventory_balances AS b
    ) AS x
"""


class KilledError(BaseException):
    """What ends a rebuild where a test wants it to end: nothing catches it."""


@dataclass(slots=True)
class MemoryReader:
    """A pipeline's records, in portions."""

    pipeline: Pipeline
    low: int = 0
    _waiting: list[Message] = field(default_factory=list)

    def bounds(self, partitions: Sequence[TopicPartition]) -> list[LogBounds]:
        known = {bound.topic_partition: bound for bound in self.pipeline.bounds()}
        return [LogBounds(tp, known[tp].topic_id, self.low, known[tp].high) for tp in partitions if tp in known]

    def open(self, spans: Mapping[TopicPartition, tuple[int, int]]) -> None:
        self._waiting = [
            message
            for tp, (start, end) in spans.items()
            for message in self.pipeline.log[tp]
            if max(start, self.low) <= message.offset < end
        ]

    def read(self, most: int, timeout_s: float) -> list[Message]:
        del timeout_s
        taken, self._waiting = self._waiting[:most], self._waiting[most:]
        return taken

    def is_done(self) -> bool:
        return not self._waiting

    def close(self) -> None:
        self._waiting.clear()


class TestClock:
    """The steady clock; pauses are short."""

    __test__ = False

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float, until: threading.Event) -> None:
        until.wait(min(seconds, 0.01))


@dataclass(slots=True)
class Watched:
    """A store that does something before and after its steps, and knows which there were."""

    store: RebuildStore
    before: Callable[[str, int], None] = lambda _name, _number: None
    after: Callable[[str, int], None] = lambda _name, _number: None
    steps: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the store has
        found = getattr(self.store, name)
        if name == "close":
            return found
        return self._hold if name == "hold" else partial(self._step, name, found)

    @contextmanager
    def _hold(self) -> Iterator[None]:
        self._step("wait", lambda: None)
        with self.store.hold():
            self._step("hold", lambda: None)
            yield
            self._step("release", lambda: None)  # before the COMMIT

    def _step(self, name: str, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        number = len(self.steps)
        self.steps.append(name)
        self.before(name, number)
        answer = work(*arguments, **named)
        self.after(name, number)
        return answer


def killed_at(store: RebuildStore, number: int, *, after: bool) -> Watched:
    """A store whose process ends before or after a step."""

    def kill(_name: str, reached: int) -> None:
        if reached == number:
            raise KilledError

    return Watched(store, after=kill) if after else Watched(store, before=kill)


def store_of(
    pipeline: Pipeline, declaration: Register | None = None, mapping: RegisterMapping | None = None
) -> RebuildStore:
    """What a rebuild of `inventory` uses of the database."""
    return RebuildStore(pipeline.access, INVENTORY.name, GROUP, "rebuilder", declaration, mapping, HOLD_MS)


def rebuilder_of(
    pipeline: Pipeline,
    store: Any = None,  # noqa: ANN401 - a store, or one that is watched
    *,
    low: int = 0,
    report: Callable[[str, int, int], None] = lambda _what, _done, _of: None,
) -> Rebuilder:
    """A rebuild of `inventory` in small batches."""
    limits = RebuilderLimits(max_events=BATCH, near=2 * BATCH, hold_ms=HOLD_MS, retry_initial_ms=1, retry_max_ms=10)
    store = store or store_of(pipeline)
    return Rebuilder(MemoryReader(pipeline, low), store, Decoding(Limits(), refuse_framed), TestClock(), limits, report)


def rebuild(pipeline: Pipeline, store: Any = None, *, low: int = 0, **choices: Any) -> Rebuilt:  # noqa: ANN401
    """Runs one to its end."""
    return rebuilder_of(pipeline, store, low=low).run(Choices(**choices))


def digest(pipeline: Pipeline) -> str:
    """Of all that `inventory` says."""
    return str(pipeline.value(DIGEST))
