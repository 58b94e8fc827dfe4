"""librdkafka's configuration: what the program decides, and what an operator may add.

What correctness rests on is fixed here, with the reason. Everything else is taken by an allow-list,
because some of librdkafka's options load libraries, run commands or switch off the checking of
certificates, and new ones come with every release: an option that is not listed is refused by name.
"""

import re
from collections.abc import Mapping
from typing import Literal

from ingest.errors import SettingsError

Config = dict[str, str | int | float | bool]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CLIENT = _words(
    """
    broker.address.family broker.address.ttl check.crcs client.dns.lookup client.id client.rack
    connections.max.idle.ms debug log.connection.close max.in.flight.requests.per.connection
    message.max.bytes metadata.max.age.ms metadata.recovery.strategy metadata.recovery.rebootstrap.trigger.ms
    receive.message.max.bytes reconnect.backoff.max.ms reconnect.backoff.ms
    retry.backoff.max.ms retry.backoff.ms security.protocol
    socket.connection.setup.timeout.ms socket.keepalive.enable socket.max.fails socket.nagle.disable
    socket.receive.buffer.bytes socket.send.buffer.bytes socket.timeout.ms
    topic.metadata.propagation.max.ms topic.metadata.refresh.interval.ms
    sasl.kerberos.keytab sasl.kerberos.min.time.before.relogin sasl.kerberos.principal sasl.kerberos.service.name
    sasl.mechanism sasl.mechanisms sasl.oauthbearer.client.id sasl.oauthbearer.client.secret
    sasl.oauthbearer.extensions sasl.oauthbearer.method sasl.oauthbearer.scope
    sasl.oauthbearer.token.endpoint.url sasl.password sasl.username
    https.ca.location https.ca.pem
    ssl.ca.location ssl.ca.pem ssl.certificate.location ssl.certificate.pem ssl.cipher.suites ssl.crl.location
    ssl.curves.list ssl.endpoint.identification.algorithm ssl.key.location ssl.key.password ssl.key.pem
    ssl.keystore.location ssl.keystore.password ssl.sigalgs.list
    """
)
_CONSUMER = _words(
    """
    coordinator.query.interval.ms fetch.error.backoff.ms fetch.max.bytes fetch.message.max.bytes fetch.min.bytes
    fetch.queue.backoff.ms fetch.wait.max.ms group.instance.id group.remote.assignor heartbeat.interval.ms
    max.partition.fetch.bytes queued.max.messages.kbytes queued.min.messages
    """
)
_PRODUCER = _words(
    """
    batch.num.messages batch.size compression.codec compression.level compression.type delivery.timeout.ms linger.ms
    message.timeout.ms queue.buffering.max.kbytes queue.buffering.max.messages queue.buffering.max.ms
    request.timeout.ms sticky.partitioning.linger.ms
    """
)

_USE_SETTING = {
    "bootstrap.servers": "kafka_bootstrap_servers",
    "metadata.broker.list": "kafka_bootstrap_servers",
    "group.id": "group",
    "group.protocol": "group_protocol",
    "session.timeout.ms": "session_timeout_ms",
    "max.poll.interval.ms": "max_poll_interval_ms",
}

_DANGEROUS = {
    "plugin.library.paths": "it loads code into the process",
    "sasl.kerberos.kinit.cmd": "it runs a command",
    "ssl.engine.location": "it loads code into the process",
    "ssl.engine.id": "it loads code into the process",
    "ssl.providers": "it loads code into the process",
    "enable.ssl.certificate.verification": "without verification anybody can pose as the broker; give ssl.ca.location",
    "enable.sasl.oauthbearer.unsecure.jwt": "an unsigned token proves nothing",
    "test.mock.num.brokers": "it replaces the brokers by a simulation",
    "test.mock.broker.rtt": "it replaces the brokers by a simulation",
}

_EXACTLY_ONCE = _words(
    """
    acks request.required.acks auto.commit.enable auto.commit.interval.ms auto.offset.reset enable.auto.commit
    enable.auto.offset.store enable.gapless.guarantee enable.idempotence enable.partition.eof
    group.protocol.type isolation.level partition.assignment.strategy partitioner transactional.id
    """
)

_IPV6 = re.compile(r"^\[[0-9a-fA-F:.%]+\]$")


def consumer_config(
    bootstrap_servers: str,
    group: str,
    group_protocol: Literal["classic", "consumer"],
    session_timeout_ms: int,
    max_poll_interval_ms: int,
    extra: Mapping[str, str],
) -> Config:
    """Return the configuration of the worker's consumer."""
    config = _client_config(bootstrap_servers) | {
        "group.id": group,
        "group.protocol": group_protocol,
        "max.poll.interval.ms": max_poll_interval_ms,
        # Positions are in PostgreSQL. Kafka's own are written after the commit, for tools to read.
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # Where to begin is never guessed: a position outside the log is reported.
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        # A full queue is looked at again soon: the default second leaves a fast worker idle.
        "fetch.queue.backoff.ms": 5,
        "queued.min.messages": 5_000,
        "queued.max.messages.kbytes": 64 * 1024,
        # Default is 5 minutes, for which new topics and partitions would stay unnoticed.
        "topic.metadata.refresh.interval.ms": 30_000,
    }
    if group_protocol == "classic":
        config["partition.assignment.strategy"] = "cooperative-sticky"
        config["session.timeout.ms"] = session_timeout_ms
    return config | _extra(extra, _CLIENT | _CONSUMER)


def producer_config(bootstrap_servers: str, extra: Mapping[str, str]) -> Config:
    """Return the configuration of a producer that neither loses, repeats nor reorders."""
    return (
        _client_config(bootstrap_servers)
        | {
            "enable.idempotence": True,
            "acks": "all",
            # As the Java client does: whoever produces a recorder's events, they are in one partition, in order.
            "partitioner": "murmur2_random",
            "compression.type": "zstd",
            "linger.ms": 20,
            "queue.buffering.max.messages": 100_000,
            "queue.buffering.max.kbytes": 64 * 1024,
            "delivery.timeout.ms": 60_000,
        }
        | _extra(extra, _CLIENT | _PRODUCER)
    )


def admin_config(bootstrap_servers: str, extra: Mapping[str, str]) -> Config:
    """Return the configuration of a client that only asks questions."""
    return _client_config(bootstrap_servers) | _extra(extra, _CLIENT)


def check_options(extra: Mapping[str, str]) -> None:
    """Refuse every option that is not known to be harmless, naming it and the reason."""
    problems = [problem for name, value in extra.items() if (problem := _objection(name, value))]
    if problems:
        raise SettingsError("\n".join(problems))


def check_bootstrap_servers(servers: str) -> None:
    """Refuse a list of brokers that librdkafka would wait for forever, or read in another way."""
    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        host_is_fine = _IPV6.match(host) if ":" in host else host and not re.search(r"[\s/@]", host)
        if not host_is_fine or not (port.isdecimal() and 0 < int(port) < 2**16):
            raise SettingsError(f"kafka_bootstrap_servers: {server.strip()!r} is not host:port, such as kafka-1:9092")


def _client_config(bootstrap_servers: str) -> Config:
    check_bootstrap_servers(bootstrap_servers)
    return {
        "bootstrap.servers": bootstrap_servers,
        "client.id": "tallystream",
        # Brokers close idle connections; that is no news.
        "log.connection.close": False,
        "socket.keepalive.enable": True,
    }


def _extra(extra: Mapping[str, str], wanted: frozenset[str]) -> Config:
    check_options(extra)
    return {name: value for name, value in extra.items() if name in wanted}


def _objection(name: str, value: str) -> str | None:
    prefix = f"kafka_options: {name} is not allowed: "
    if name in _DANGEROUS:
        return prefix + _DANGEROUS[name]
    if name in _USE_SETTING:
        return f"{prefix}use the setting {_USE_SETTING[name]}"
    if name in _EXACTLY_ONCE:
        return prefix + "reading every event exactly once depends on it"
    if name not in _CLIENT | _CONSUMER | _PRODUCER:
        return prefix + "it is not an option, or not one that is known to be harmless"
    if name == "ssl.endpoint.identification.algorithm" and value.lower() == "none":
        return prefix.removesuffix(": ") + " to be none: any certificate of the same authority could pose as the broker"
    return None
