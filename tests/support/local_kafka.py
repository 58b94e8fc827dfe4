"""A real Apache Kafka broker of our own, from its jars: start, stop, kill -9 and start again on the same ports.

KRaft in one process, broker and controller. The jars come from Maven Central once; so does a class archive, made at the
first stop of a broker, which halves the time to start.
"""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.support.downloads import ROOT, cached, locked, maven, run_maven
from tests.support.processes import Server, free_ports
from tests.support.versions import KAFKA, MAVEN_DEPENDENCY_PLUGIN
from tests.support.waiting import wait_until

POM = ROOT / "tests" / "support" / "kafka_jars" / "pom.xml"
JAVA_AT_LEAST = 17
READY_TIMEOUT_S = 120
REQUEST_TIMEOUT_S = 3
FORMAT_TIMEOUT_S = 120
STORAGE_TOOL = "kafka.tools.StorageTool"
FORMAT_FLAGS = ("-Xshare:auto", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
BROKER_FLAGS = ("-Xms128m", "-Xmx256m", *FORMAT_FLAGS, "-Dlog4j2.level=WARN")
# As Kafka's own script starts it: for what is measured. Tests would wait for its compilers.
MEASURED_FLAGS = (
    "-Xms1g",
    "-Xmx1g",
    "-Xshare:auto",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
    "-Dlog4j2.level=WARN",
)

# The broker's session is short, for after a kill -9 the controller waits for its end: 12 s with the defaults, 6 s so.
# A shorter one would end on a busy machine while the broker lives.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{advertised},CONTROLLER://127.0.0.1:{controller}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
log.retention.ms=-1
broker.session.timeout.ms=5000
broker.heartbeat.interval.ms=1000
"""


@dataclass(frozen=True, slots=True)
class Membership:
    """What makes a broker one of several: its number, its controller's port, all controllers, and their cluster."""

    node: int
    controller_port: int
    voters: str
    uuid: str


# What differs from a single broker. A later line counts.
REPLICATED = """\
controller.quorum.voters={voters}
node.id={node}
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""


class LocalKafka:
    """One broker in a temporary folder, on two ports that stay its own."""

    def __init__(
        self,
        properties: str = PROPERTIES,
        port: int | None = None,
        advertised_port: int | None = None,
        member: Membership | None = None,
        flags: Sequence[str] = BROKER_FLAGS,
    ) -> None:
        """A port that was chosen before, and the one that clients are told: a way to the broker through something."""
        self.folder = Path(tempfile.mkdtemp(prefix="ts-kafka-"))
        self._data = self.folder / "data"
        self._properties = self.folder / "server.properties"
        self._broker_port, controller = free_ports(2)
        self._broker_port = port or self._broker_port
        properties = properties.format(
            broker=self._broker_port,
            advertised=advertised_port or self._broker_port,
            controller=member.controller_port if member else controller,
            data=self._data,
        )
        self._member = member
        self._flags = flags
        if member is not None:
            alone = next(line for line in properties.splitlines() if line.startswith("controller.quorum.bootstrap"))
            properties = properties.replace(f"{alone}\n", "") + REPLICATED.format(
                voters=member.voters, node=member.node
            )
        self._properties.write_text(properties, encoding="utf-8")
        self._server: Server | None = None

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self._broker_port}"

    @property
    def pid(self) -> int:
        """Of the broker that was started last."""
        assert self._server is not None
        return self._server.pid

    def start(self) -> None:
        """Returns when the broker answers requests; a log line would be too early."""
        server = self.launch()
        wait_until_it_answers(self.bootstrap_servers, given_up=lambda: not server.running)
        if not server.running:
            message = f"Kafka does not start; the end of its log:\n{server.last_lines()}"
            raise RuntimeError(message)

    def launch(self) -> Server:
        """Begin to start it."""
        if not (self._data / "meta.properties").exists():
            self._format(*_archive_flags())
        self._server = Server(
            ["java", *self._flags, *_archive_flags(), "-cp", _class_path(), "kafka.Kafka", self._properties],
            self.folder / "log",
        )
        return self._server

    def stop(self) -> None:
        """SIGTERM: the broker leaves in order."""
        if self._server is not None:
            self._server.stop()

    def kill(self) -> None:
        """kill -9."""
        if self._server is not None:
            self._server.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def lose_tail(self, topic: str) -> None:
        """Lose the second half of partition 0, as a disk that lied does in a power cut; not while the broker runs."""
        folder = self._data / f"{topic}-0"
        (segment,) = folder.glob("*.log")
        with segment.open("r+b") as log:
            log.truncate(segment.stat().st_size // 2)
        # What the broker knows by heart is looked up in the log again.
        for known in (*folder.glob("*.*index"), *folder.glob("*.snapshot"), *self._data.glob("*-checkpoint")):
            known.unlink()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _format(self, *flags: str) -> None:
        uuid, alone = (self._member.uuid, ()) if self._member else (new_uuid(), ("--standalone",))
        arguments = ("format", *alone, "-t", uuid, "-c", str(self._properties))
        java = ["java", *FORMAT_FLAGS, *flags, "-Dlog4j2.level=ERROR", "-cp", _class_path()]
        done = subprocess.run(
            [*java, STORAGE_TOOL, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FORMAT_TIMEOUT_S,
            cwd=self.folder,
        )
        if done.returncode:
            message = f"{STORAGE_TOOL} {arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
            raise RuntimeError(message)


def new_uuid() -> str:
    """22 characters; the tool takes a leading dash for an option."""
    return f"T{secrets.token_urlsafe(16)[1:]}"


def missing() -> str | None:
    """What is missing on this machine for a broker of our own; nothing when it can be had."""
    version = java_version()
    if version is None:
        return "java is missing"
    if version < JAVA_AT_LEAST:
        return f"java is {version}, and Kafka {KAFKA} needs {JAVA_AT_LEAST}"
    return "mvn is missing" if maven() is None else None


@cache
def java_version() -> int | None:
    if shutil.which("java") is None:
        return None
    found = re.search(r'version "(\d+)', _java_says())
    return int(found[1]) if found else None


def wait_until_it_answers(bootstrap_servers: str, given_up: Callable[[], bool] = lambda: False) -> None:
    """Until the broker answers: about the cluster and, back from a kill, as the leader of each partition."""
    client: dict[str, Any] = {"bootstrap.servers": bootstrap_servers, "log_level": 0, "reconnect.backoff.max.ms": 200}
    admin = AdminClient(client)

    def answers() -> bool:
        with contextlib.suppress(KafkaException, TimeoutError):
            cluster = admin.describe_cluster(request_timeout=REQUEST_TIMEOUT_S).result(REQUEST_TIMEOUT_S + 1)
            return bool(cluster.nodes) and _leads_its_partitions(consumer)
        return given_up()

    with contextlib.closing(Consumer({**client, "group.id": "ready"})) as consumer:
        wait_until(answers, READY_TIMEOUT_S, "Kafka answers")


def _leads_its_partitions(consumer: Consumer) -> bool:
    """Asks the broker as a leader; metadata alone name a leader that does not know yet that it is one."""
    for name, topic in consumer.list_topics(timeout=REQUEST_TIMEOUT_S).topics.items():
        for number in topic.partitions if not name.startswith("__") else ():
            consumer.get_watermark_offsets(TopicPartition(name, number), timeout=REQUEST_TIMEOUT_S)
    return True


@cache
def _java_says() -> str:
    return subprocess.run(["java", "-version"], check=True, capture_output=True, text=True).stderr


@cache
def _class_path() -> str:
    """In a fixed order: a class archive fits one class path only."""
    jars = cached(f"kafka-{KAFKA}", _fetch)
    return os.pathsep.join(str(jar) for jar in sorted(jars.glob("*.jar")))


def _fetch(target: Path) -> None:
    run_maven(
        f"{MAVEN_DEPENDENCY_PLUGIN}:copy-dependencies",
        "-f",
        str(POM),
        "-DincludeScope=runtime",
        f"-DoutputDirectory={target}",
    )


@cache
def _archive_flags() -> tuple[str, ...]:
    return (f"-XX:SharedArchiveFile={_class_archive()}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off")


def _class_archive() -> Path:
    """Made once for this Java and these jars, by formatting and running a broker that nobody uses."""
    fingerprint = hashlib.sha256(f"{_java_says()}{_class_path()}".encode()).hexdigest()[:12]
    jars = Path(_class_path().split(os.pathsep)[0]).parent
    archive = jars.parent / f"kafka-{KAFKA}-{fingerprint}.jsa"
    with locked(archive.name):
        if not archive.exists():
            _record_classes(archive)
    return archive


def _record_classes(archive: Path) -> None:
    partial = archive.with_suffix(".partial")
    broker = LocalKafka()
    try:
        broker._format()
        flags = (*BROKER_FLAGS, f"-XX:ArchiveClassesAtExit={partial}")
        server = Server(
            ["java", *flags, "-cp", _class_path(), "kafka.Kafka", broker._properties], broker.folder / "log"
        )
        wait_until_it_answers(broker.bootstrap_servers)
        server.stop()
        partial.rename(archive)
    finally:
        broker.close()
