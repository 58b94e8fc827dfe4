"""The whole product as it is deployed: a topic on a real broker, a database, and workers in processes of their own.

stream.declare(TOML)
stream.produce([b'{"id": …}', …])          # as `tallystream produce` sends them
workers = [stream.worker(), stream.worker()]
stream.wait_until_read()
"""

import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from ingest.kafka.options import producer_config
from ingest.kafka.producer import EventProducer
from tests.support.downloads import ROOT
from tests.support.kafka import Broker
from tests.support.postgres import Database
from tests.support.program import Done, Program, run_tallystream
from tests.support.waiting import wait_until

# The sample declaration, and the same in high-write mode.
INVENTORY = (ROOT / "schema" / "registers" / "inventory.toml").read_text(encoding="utf-8")
HIGH_WRITE_INVENTORY = INVENTORY.replace('kind = "balance"', 'kind = "balance"\nhigh_write = true')

REQUEST_TIMEOUT_S = 60
READ_TIMEOUT_S = 600
PARTITIONS = 4
# A worker that was killed is missed after this time: the shortest that a broker allows.
SESSION_TIMEOUT_MS = 6_000


@dataclass(slots=True)
class Stream:
    """One topic of four partitions, one database, one group; the workers that are alive."""

    kafka: Broker
    topic: str
    database: Database
    folder: Path
    start: Callable[..., Program]
    extra: dict[str, str] = field(default_factory=dict)
    workers: list[Program] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        """What a deployment would set."""
        return {
            "TALLYSTREAM_POSTGRES_DSN": self.database.dsn,
            "TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "TALLYSTREAM_TOPICS": self.topic,
            "TALLYSTREAM_GROUP": f"group-{self.topic}",
            "TALLYSTREAM_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
            **self.extra,
        }

    def run(self, *arguments: str, **options: Any) -> Done:  # noqa: ANN401 - those of run_tallystream
        """A command that ends by itself."""
        return run_tallystream(*arguments, env=self.env, **options)

    def declare(self, declarations: str) -> None:
        """Registers, as an operator creates them."""
        file = self.folder / "registers.toml"
        file.write_text(declarations, encoding="utf-8")
        self.run("register", "apply", str(file)).check()

    def produce(self, events: Iterable[bytes]) -> None:
        """Events, as an operator sends them from a file."""
        file = self.folder / "events.jsonl"
        file.write_bytes(b"\n".join(events) + b"\n")
        self.run("produce", str(file), timeout_s=READ_TIMEOUT_S).check()

    def produce_keyed(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Records as another producer sends them: whatever is in them, bad events too."""
        producer = EventProducer(producer_config(self.kafka.bootstrap_servers, {}), self.topic)
        producer.check_topic()
        for number, (key, value) in enumerate(records):
            producer.send(key, value, number)
        producer.flush()
        assert not producer.failed

    def worker(self) -> Program:
        """One more worker, once it has joined."""
        self.workers.append(self.start("run", env=self.env))
        self.workers[-1].wait_for_log(event="started")
        return self.workers[-1]

    def kill(self, rng: random.Random) -> None:
        """kill -9 of one of the workers, and another one in its place."""
        victim = self.workers.pop(rng.randrange(len(self.workers)))
        victim.kill()
        self.worker()

    def stop(self) -> None:
        """SIGTERM to all; each of them ends well."""
        while self.workers:
            worker = self.workers.pop()
            assert worker.terminate() == 0, worker.tail()

    def kill_while_reading(self, records: Sequence[tuple[bytes, bytes]], rng: random.Random, times: int) -> None:
        """Sends records in so many portions, and kills a worker at a random place within each of them."""
        hits = 0
        for number in range(times):
            start = self.end()
            portion = records[number * len(records) // times : (number + 1) * len(records) // times]
            self.produce_keyed(portion)
            place = start + rng.uniform(0.0, 0.6) * len(portion)
            self._wait(partial(self._has_read, place), "the place of the next kill")
            time.sleep(rng.uniform(0, 0.05))  # anywhere in a batch; what is waited for is only where batches end
            hits += self.read() < start + len(portion)
            self.kill(rng)
        assert 2 * hits > times, "everything was read before most of the kills: this run shows nothing"

    def wait_until_read(self) -> None:
        """Every record that was sent is behind the positions."""
        end = self.end()
        self._wait(partial(self._has_read, end), "the whole log is read")

    def wait_until_mirrored(self) -> None:
        """Lag tools, which read Kafka, see that nothing is left: a rebalance may have been in the way for a moment."""
        end = self.end()
        self._wait(lambda: self.mirrored() == end, "the offsets in Kafka")

    def read(self) -> int:
        """How many records the positions have passed, in all partitions."""
        with self.database.connect() as connection:
            row = connection.execute(
                "SELECT coalesce(sum(next_offset), 0)::int FROM accum._positions WHERE consumer_group = %s",
                [self.env["TALLYSTREAM_GROUP"]],
            ).fetchone()
        return int(row[0]) if row else 0

    def end(self) -> int:
        """How many records there are, in all partitions."""
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap_servers})
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        answers = admin.list_offsets({TopicPartition(self.topic, n): latest for n in range(PARTITIONS)})
        return sum(int(answer.result(REQUEST_TIMEOUT_S).offset) for answer in answers.values())

    def mirrored(self) -> int:
        """The sum of the offsets that lag tools see in Kafka."""
        consumer = Consumer({"bootstrap.servers": self.kafka.bootstrap_servers, "group.id": f"group-{self.topic}"})
        try:
            partitions = [TopicPartition(self.topic, n) for n in range(PARTITIONS)]
            return sum(max(p.offset, 0) for p in consumer.committed(partitions, timeout=REQUEST_TIMEOUT_S))
        finally:
            consumer.close()

    def counts(self) -> dict[str, int]:
        """What `tallystream status` says became of the events, over all partitions."""
        partitions = json.loads(self.run("status", "--json").check().out)["partitions"]
        assert len(partitions) == PARTITIONS
        return {key: sum(p[key] for p in partitions) for key in ("applied", "duplicates", "stale", "dead_letters")}

    def _has_read(self, place: float) -> bool:
        return self.read() >= place

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        def look() -> bool:
            for worker in self.workers:
                assert worker.code is None, f"{worker!r} ended with {worker.code}:\n{worker.tail()}"
            return condition()

        wait_until(look, READ_TIMEOUT_S, what)


@pytest.fixture
def stream(
    kafka: Broker,
    kafka_topic: Callable[..., str],
    database: Database,
    tmp_path: Path,
    program: Callable[..., Program],
) -> Stream:
    """A topic of four partitions, and nothing read yet."""
    return Stream(kafka, kafka_topic(partitions=PARTITIONS), database, tmp_path, program)
