"""How long it takes until an event can be read in the tables, at half of the load that the worker can bear.

That load is the rate at which events become visible while more are produced than can be: what a backlog is drained with
is more, because nobody produces meanwhile, and is what is offered (sustainable throughput: Karimov et al., Benchmarking
Distributed Stream Data Processing Systems, ICDE 2018).

Events are produced at an even pace, into one partition after the other, by nobody else: that tells their offsets. An
observer looks at the positions in PostgreSQL every few milliseconds, and an event is visible when its partition's
position has passed it. Producer and observer share the machine with what they measure, and do as little as they can.

An ordinary register and one in high-write mode, with its compactor, in turns; each at half of its own load.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import median

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from ingest.kafka.options import producer_config
from tests.benchmarks.figures import Figure, say
from tests.benchmarks.loads import Load, Shape, make_load
from tests.benchmarks.stage import PARTITIONS, Stage
from tests.benchmarks.streaming import check, crew, stream
from tests.support.postgres import Database
from tests.support.program import Program, run_tallystream

SHAPE = Shape(cells=1000)
BACKLOG = 200_000
OFFERED_S = 8.0
SECONDS = 20.0
# The first batches of a process find neither its plans nor its pages in memory, and take 200 ms each; events pile up.
WARM_UP_S = 3.0
TICK_S = 0.005
# An event is seen so much too late at most. Looking every 2 ms took 5 % of a core.
LOOK_S = 0.01
LAST_LOOK_S = 30.0
POSITIONS = "SELECT partition, next_offset FROM accum._positions"


@dataclass(slots=True)
class Sightings:
    """When which position was seen first, and when which event was sent."""

    seen: dict[int, list[tuple[float, int]]] = field(default_factory=dict)
    sent: list[tuple[int, int, float]] = field(default_factory=list)

    def look(self, database: Database, stop: threading.Event) -> None:
        """Watches the positions until told to stop."""
        with database.connect() as connection:
            while not stop.wait(LOOK_S):
                rows = connection.execute(POSITIONS.encode(), prepare=True).fetchall()
                now = time.perf_counter()
                for partition, next_offset in rows:
                    found = self.seen.setdefault(partition, [])
                    if not found or found[-1][1] < next_offset:
                        found.append((now, next_offset))

    def complete(self) -> bool:
        """Whether everything that was sent has been seen."""
        last: dict[int, int] = {}
        for partition, offset, _ in self.sent:
            last[partition] = max(offset, last.get(partition, 0))
        return all(self.seen.get(p) and self.seen[p][-1][1] > offset for p, offset in last.items())

    def visible_rate(self) -> float:
        """Events that became visible each second from the warm-up on, for as long as more were sent."""
        began, ended = self.sent[0][2] + WARM_UP_S, self.sent[-1][2]
        return (self._visible(ended) - self._visible(began)) / (ended - began)

    def _visible(self, moment: float) -> int:
        return sum(max((offset for at, offset in found if at <= moment), default=0) for found in self.seen.values())

    def waits_ms(self) -> list[float]:
        """How long each event took that was sent once the worker was warm, in order of length."""
        waits = []
        warm = min(at for _, _, at in self.sent) + WARM_UP_S
        places = dict.fromkeys(self.seen, 0)
        for partition, offset, at in sorted(self.sent):
            found, place = self.seen[partition], places[partition]
            while found[place][1] <= offset:
                place += 1
            places[partition] = place
            if at >= warm:
                waits.append((found[place][0] - at) * 1000)
        return sorted(waits)


@dataclass(frozen=True, slots=True)
class Waits:
    """How long events took at this rate of events a second; a backlog was drained with the other."""

    drained: float
    rate: float
    p50_ms: float
    p99_ms: float
    longest_ms: float


def measure(stage: Stage, name: str) -> list[Figure]:
    """In each round first the load that can be borne, then half of it for some seconds; the medians of all rounds."""
    rounds: dict[bool, list[Waits]] = {False: [], True: []}
    for _ in range(stage.rounds):
        for high_write, waits in rounds.items():
            waits.append(_half_load(stage, high_write=high_write))
    figures = [
        *_figures(name, "event produced to visible at half load", rounds[False]),
        *_figures(name, "the same, a register in high-write mode", rounds[True]),
    ]
    for figure in figures:
        say(f"{figure.line()}\n    {figure.explained()}")
    return figures


def _figures(name: str, what: str, rounds: Sequence[Waits]) -> list[Figure]:
    rate = median(waits.rate for waits in rounds)
    longest = median(waits.longest_ms for waits in rounds)
    drained = median(waits.drained for waits in rounds)
    details = {"events/s": rate, "backlog drained, events/s": drained, "longest ms": longest}
    p50, p99 = median(waits.p50_ms for waits in rounds), median(waits.p99_ms for waits in rounds)
    return [
        Figure(name, f"{what}, p50", p50, "ms", details=details),
        Figure(name, f"{what}, p99", p99, "ms", goal=250.0, details=details),
    ]


def _half_load(stage: Stage, *, high_write: bool) -> Waits:
    backlog = make_load(SHAPE, stage.size(BACKLOG, SHAPE.lines))
    with _register(stage, high_write=high_write) as database:
        drained = stream(stage, database, partial(list, backlog.events), len(backlog.events)).rate
    offered = _load_of(stage, drained, OFFERED_S)
    with _register(stage, high_write=high_write) as database:
        stage.settle()
        sustained = run(stage, database, offered, drained).visible_rate()
    rate = sustained / 2
    load = _load_of(stage, rate, SECONDS)
    with _register(stage, high_write=high_write) as database:
        stage.settle()
        waits = run(stage, database, load, rate).waits_ms()
        if high_write:
            run_tallystream("compact", "--once", env=_environment(database)).check()
        check(database, load)
    return Waits(drained, rate, waits[len(waits) // 2], waits[len(waits) * 99 // 100], waits[-1])


def _load_of(stage: Stage, rate: float, seconds: float) -> Load:
    """Events for so many seconds at this rate, the warm-up aside."""
    return make_load(SHAPE, int(rate * (WARM_UP_S + max(2.0, seconds * min(1.0, stage.factor)))) * SHAPE.lines)


@contextmanager
def _register(stage: Stage, *, high_write: bool) -> Iterator[Database]:
    """A database with the register; a compactor at work where there is something to fold."""
    with stage.database(SHAPE.declaration(high_write=high_write)) as database, ExitStack() as stack:
        if high_write:
            compactor = Program("compact", env=_environment(database), folder=stage.folder)
            stack.callback(compactor.close)
            compactor.wait_for_log(event="started")
        yield database


def _environment(database: Database) -> dict[str, str]:
    return {"TALLYSTREAM_POSTGRES_DSN": database.dsn}


def run(stage: Stage, database: Database, load: Load, rate: float) -> Sightings:
    """Produces the load at this many events a second, and waits until all of them are visible."""
    sightings, stop = Sightings(), threading.Event()
    producer = Producer(producer_config(stage.broker.bootstrap_servers, {}) | {"delivery.report.only.error": True})
    with crew(stage, database, 1) as made:
        observer = threading.Thread(target=sightings.look, args=(database, stop))
        observer.start()
        try:
            _produce(producer, made.topic, load, rate, sightings)
            deadline = time.perf_counter() + LAST_LOOK_S
            while not sightings.complete():
                assert time.perf_counter() < deadline, "the last events were not seen"
                made.look_after()
                time.sleep(TICK_S)
        finally:
            stop.set()
            observer.join()
        made.stop()
    return sightings


def _produce(producer: Producer, topic: str, load: Load, rate: float, sightings: Sightings) -> None:
    began, sent = time.perf_counter(), 0
    while sent < len(load.events):
        due = min(len(load.events), int((time.perf_counter() - began) * rate) + 1)
        for number in range(sent, due):
            key, value = load.events[number]
            partition, offset = number % PARTITIONS, number // PARTITIONS
            sightings.sent.append((partition, offset, time.perf_counter()))
            producer.produce(topic, value, key, partition, on_delivery=_fail)
        sent = due
        producer.poll(0)
        time.sleep(TICK_S)
    producer.flush()


def _fail(error: KafkaError | None, message: Message) -> None:
    """Offsets are not what they are taken for, once an event is lost."""
    raise KafkaException(error or message.error())


ROWS: Mapping[str, Callable[[Stage, str], list[Figure]]] = {"latency": measure}
