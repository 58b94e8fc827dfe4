"""TLS on both links: a certificate of another host, an expired one, an unknown authority are refused, never gone round.

The certificates are made here, with openssl; the servers are real.
"""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from ingest.errors import OperatorError
from tests.support import local_kafka
from tests.support.lacking import skip_for
from tests.support.local_kafka import PROPERTIES, LocalKafka
from tests.support.local_postgres import ADMIN, LocalPostgres
from tests.support.members import Member
from tests.support.processes import free_ports
from tests.support.program import run_tallystream

pytestmark = [pytest.mark.slow]


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority in a folder."""

    folder: Path
    name: str

    @property
    def certificate(self) -> Path:
        return self.folder / f"{self.name}.crt"

    def create(self) -> "Authority":
        key = self.folder / f"{self.name}.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
                "-subj", f"/CN={self.name}", "-keyout", key, "-out", self.certificate)  # fmt: skip
        return self

    def sign(self, host: str, name: str, *, expired: bool = False) -> tuple[Path, Path]:
        """A key and a certificate for an address or a host."""
        key, request, certificate = (self.folder / f"{name}.{suffix}" for suffix in ("key", "csr", "crt"))
        if certificate.exists():
            return key, certificate
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={host}",
                "-keyout", key, "-out", request)  # fmt: skip
        extension = self.folder / f"{name}.ext"
        kind = "IP" if host[0].isdigit() else "DNS"
        extension.write_text(f"subjectAltName={kind}:{host}\n", encoding="ascii")
        dates = ["-days", "0"] if expired else ["-days", "30"]
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.folder / f"{self.name}.key",
                "-CAcreateserial", "-extfile", extension, *dates, "-out", certificate)  # fmt: skip
        return key, certificate


def openssl(*arguments: str | Path) -> None:
    """The program, as an operator would use it."""
    done = subprocess.run(["openssl", *map(str, arguments)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that clients trust."""
    return Authority(tmp_path_factory.mktemp("tls"), "trusted").create()


@pytest.fixture(scope="module")
def stranger(authority: Authority) -> Authority:
    """One that nobody trusts."""
    return Authority(authority.folder, "stranger").create()


# The embedded build has no TLS; that of Maven Central does.
WITH_TLS = 18
CASES = ["wrong host", "expired", "unknown authority", "no TLS at all", "right"]
POSTGRES_SAYS = {
    "wrong host": "does not match host name",
    "expired": "certificate verify failed",
    "unknown authority": "certificate verify failed",
    "no TLS at all": "server does not support SSL",
}


def certificate_for(case: str, authority: Authority, stranger: Authority) -> tuple[Path, Path]:
    """What the server shows."""
    name = case.replace(" ", "-")
    if case == "unknown authority":
        return stranger.sign("127.0.0.1", name)
    return authority.sign("db.elsewhere" if case == "wrong host" else "127.0.0.1", name, expired=case == "expired")


@pytest.mark.scenario("N9")
@pytest.mark.parametrize("case", CASES)
def test_postgresql(case: str, authority: Authority, stranger: Authority) -> None:
    """The worker does not start, names the cause, and has sent nothing in the clear."""
    server = LocalPostgres(WITH_TLS, durable=False)
    try:
        if case != "no TLS at all":
            for source, name in zip(
                certificate_for(case, authority, stranger), ("server.key", "server.crt"), strict=True
            ):
                target = server.data / name
                target.write_bytes(source.read_bytes())
                subprocess.run(["chown", f"--reference={server.data}", target], check=True)
                target.chmod(0o600)
            server.settings["ssl"] = "on"
        server.start()
        dsn = make_conninfo(
            host="127.0.0.1", port=server.port, user=ADMIN, dbname="postgres", sslmode="verify-full",
            sslrootcert=str(authority.certificate),
        )  # fmt: skip
        done = run_tallystream("migrate", env={"TALLYSTREAM_POSTGRES_DSN": dsn})
        if case == "right":
            done.check()
        else:
            assert POSTGRES_SAYS[case] in done.check(2).err
            env = {"TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "TALLYSTREAM_HTTP_PORT": "0"}
            worker = run_tallystream("run", env=env | {"TALLYSTREAM_TOPICS": "t", "TALLYSTREAM_POSTGRES_DSN": dsn})
            assert POSTGRES_SAYS[case] in worker.check(2).err.splitlines()[-1]
    finally:
        server.close()


KAFKA_SAYS = {
    "wrong host": "certificate verify failed",
    "expired": "certificate verify failed",
    "unknown authority": "certificate verify failed",
}


@pytest.fixture(scope="module")
def brokers() -> Iterator[Callable[[Path, Path], str]]:
    """Starts a broker that shows a certificate; returns the address of its TLS listener."""
    if lack := local_kafka.missing():
        skip_for(f"no Kafka of our own: {lack}")
    made: dict[Path, tuple[LocalKafka, str]] = {}

    def make(key: Path, certificate: Path) -> str:
        if certificate in made:
            return made[certificate][1]
        (port,) = free_ports(1)
        store = key.with_suffix(".pem")
        pkcs8 = key.with_suffix(".pk8")
        openssl("pkcs8", "-topk8", "-nocrypt", "-in", key, "-out", pkcs8)
        store.write_bytes(pkcs8.read_bytes() + certificate.read_bytes())
        secure = PROPERTIES.replace(
            "PLAINTEXT://127.0.0.1:{broker},", f"PLAINTEXT://127.0.0.1:{{broker}},SSL://127.0.0.1:{port},"
        )
        secure = secure.replace("PLAINTEXT:PLAINTEXT", "PLAINTEXT:PLAINTEXT,SSL:SSL")
        broker = LocalKafka(f"{secure}ssl.keystore.type=PEM\nssl.keystore.location={store}\n")
        broker.start()
        made[certificate] = broker, f"127.0.0.1:{port}"
        return made[certificate][1]

    yield make
    for broker, _ in made.values():
        broker.close()


@pytest.mark.kafka
@pytest.mark.scenario("N9")
@pytest.mark.parametrize("case", ["wrong host", "expired", "unknown authority", "right"])
def test_kafka(
    case: str,
    authority: Authority,
    stranger: Authority,
    brokers: Callable[[Path, Path], str],
    members: Callable[..., Member],
) -> None:
    """A worker that has read nothing yet stops with the cause; with the right certificate it waits for its topic."""
    address = brokers(*certificate_for("right" if case == "unknown authority" else case, authority, stranger))
    trusted = stranger if case == "unknown authority" else authority
    options = {"security.protocol": "ssl", "ssl.ca.location": str(trusted.certificate)}
    member = members(address, ["events"], options=options).start()
    if case == "right":
        for _ in range(20):
            assert member.poll(0.1) == []
        return
    with pytest.raises(OperatorError, match=f"Kafka cannot be used with these settings: .*{KAFKA_SAYS[case]}"):
        member.read_until(lambda: False, timeout_s=30)
