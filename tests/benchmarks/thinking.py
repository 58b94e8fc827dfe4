"""What Python does between a polled message and the bytes of COPY, in µs of its own time per movement.

No server takes part. What is measured is the time of this thread's processor, so a busy machine does little harm; in
a worker all of it shares one interpreter lock, of which one movement may take as long as one core has for it.
"""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, TypeAlias

import confluent_kafka as ck

from ingest.domain.batches import BatchBuilder, BatchLimits, Decoded
from ingest.domain.decoding import Decoder
from ingest.domain.messages import Message
from ingest.domain.plans import Plan, plan_batch, recorder_keys
from ingest.domain.positions import Claim, PartitionKey, TopicPartition
from ingest.domain.registers import Dimension, Kind, Register, Resource
from ingest.kafka.consumer import as_message
from ingest.postgres.copying import copy_text
from tests.benchmarks.figures import Figure, say
from tests.benchmarks.loads import NAME, Shape, make_load
from tests.benchmarks.stage import PARTITIONS, Stage

MOVEMENTS = 20_000
POLLED = 300
ROUNDS_AT_LEAST = 5
CLAIMS = [Claim(TopicPartition(NAME, number), number, 0, 1) for number in range(PARTITIONS)]
IDS: dict[PartitionKey, int] = {claim.topic_partition: claim.position_id for claim in CLAIMS}

Phases: TypeAlias = dict[str, float]


def register_of(shape: Shape) -> Register:
    """As `Shape.declaration` declares it."""
    return Register(
        name=NAME,
        kind=Kind.BALANCE,
        dimensions=(Dimension("warehouse", "int"), Dimension("product", "int"), Dimension("lot", "text")),
        resources=(Resource("quantity", shape.resource), Resource("amount", shape.resource)),
    )


def records_of(shape: Shape, movements: int) -> list[Any]:
    """Records as a consumer gets them."""
    events = make_load(shape, movements).events
    return [
        ck.Message(NAME, number % PARTITIONS, number, key, value, None, None, (ck.TIMESTAMP_CREATE_TIME, 1), 0.0)
        for number, (key, value) in enumerate(events)
    ]


class Half:
    """The way of one batch, phase by phase."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.took: Phases = {}

    def run(self, records: list[Any]) -> None:
        """As many records at a time as a worker polls, then what becomes of them all."""
        builder = BatchBuilder(BatchLimits())
        builder.claim(CLAIMS)
        for first in range(0, len(records), POLLED):
            polled = records[first : first + POLLED]
            messages: list[Message] = self._timed("consume", lambda: [as_message(record) for record in polled])  # noqa: B023
            items: list[Decoded] = self._timed("decode", lambda: list(map(self.decoder.decode, messages)))  # noqa: B023
            self._timed("collect", lambda: builder.add(items, 1, 0.0))  # noqa: B023
        batch = builder.take()
        plan: Plan = self._timed("plan", lambda: self._plan(batch.items))
        (register,) = plan.registers
        text: bytes = self._timed("copy text", lambda: "".join(copy_text(register.events, IDS, 1)).encode())
        assert text.count(b"\n") == register.movements == sum(plan.movements.values())

    def _timed(self, phase: str, work: Callable[[], Any]) -> Any:  # noqa: ANN401  whatever the work returns
        began = time.thread_time()
        made = work()
        self.took[phase] = self.took.get(phase, 0.0) + time.thread_time() - began
        return made

    def _plan(self, items: tuple[Decoded, ...]) -> Plan:
        recorder_keys(items)
        return plan_batch(items, {}, {})


def measure(stage: Stage, name: str) -> list[Figure]:
    """Documents of one line and of ten, decimals as texts."""
    return [figure for lines in (1, 10) for figure in _of_lines(stage, name, lines)]


def _of_lines(stage: Stage, name: str, lines: int) -> list[Figure]:
    shape = Shape(lines=lines)
    decoder = Decoder({NAME: register_of(shape)})
    records = records_of(shape, MOVEMENTS)
    rounds: list[Phases] = []
    ratios: list[float] = []
    for _ in range(max(ROUNDS_AT_LEAST, stage.rounds)):
        half = Half(decoder)
        half.run(records)
        rounds.append(half.took)
        messages = [as_message(record) for record in records[: len(records) // 10]]
        ratios.append(_cpu_s(decoder.decode_carefully, messages) / _cpu_s(decoder.decode, messages))
    phases = {phase: 1e6 * median(each[phase] for each in rounds) / MOVEMENTS for phase in rounds[0]}
    what = f"Python per movement, documents of {lines} {'line' if lines == 1 else 'lines'}"
    whole = Figure(name, what, sum(phases.values()), unit="us", details=phases)
    careful = Figure(name, f"decoding carefully against plainly, {lines}", median(ratios), against="plain decoding")
    for figure in (whole, careful):
        say(f"{figure.line()}\n    {figure.explained()}".rstrip())
    return [whole, careful]


def _cpu_s(decode: Callable[[Message], object], messages: list[Message]) -> float:
    began = time.thread_time()
    for message in messages:
        decode(message)
    return time.thread_time() - began


ROWS: Mapping[str, Callable[[Stage, str], list[Figure]]] = {"python": measure}
