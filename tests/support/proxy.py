"""A network between the program and PostgreSQL that breaks where a test says: before a message arrives, or after.

with Proxy(dsn) as proxy:
    proxy.cut(b"COMMIT", Cut.AFTER)      # the next COMMIT takes place, and its reply is lost
    psycopg.connect(proxy.dsn)
"""

import contextlib
import socket
import threading
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

# As it is sent; READ COMMITTED in a BEGIN is not meant.
COMMIT: Final = b"COMMIT\0"
# How the server says that a transaction is over.
ENDS: Final = (b"COMMIT\0", b"ROLLBACK\0")
CHUNK: Final = 65536
CONNECT_TIMEOUT_S: Final = 10


class Cut(Enum):
    """Where the connection breaks: the message never arrives, or the answer never comes back."""

    BEFORE = auto()
    AFTER = auto()


@dataclass(slots=True)
class Silence:
    """Nothing is told to a client any more once there is an answer after which its connection breaks."""

    until: tuple[bytes, ...] = ()


class Proxy:
    """Forwards connections to one server, in the clear, so that it can see what is said."""

    def __init__(self, dsn: str) -> None:
        target = conninfo_to_dict(dsn)
        self._host = str(target.get("host") or "127.0.0.1")
        self._port = int(str(target.get("port") or 5432))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._order: tuple[bytes, Cut, int] | None = None
        self.cuts = 0
        port = self._listener.getsockname()[1]
        self.dsn = make_conninfo(dsn, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, what: bytes, where: Cut, skip: int = 0) -> None:
        """Breaks the connection at a message that contains these bytes: the first, or after so many others."""
        with self._lock:
            self._order = what, where, skip

    def heal(self) -> None:
        """Takes back a cut that has not happened."""
        with self._lock:
            self._order = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for one in self._sockets:
            close(one)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = self._connect()
                except OSError:
                    # The server is away: nobody answers here either.
                    close(client)
                    continue
                self._sockets += [client, server]
                silence = Silence()
                threading.Thread(target=self._to_server, args=(client, server, silence), daemon=True).start()
                threading.Thread(target=_to_client, args=(server, client, silence), daemon=True).start()

    def _connect(self) -> socket.socket:
        if self._host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(Path(self._host) / f".s.PGSQL.{self._port}"))
            return server
        return socket.create_connection((self._host, self._port), CONNECT_TIMEOUT_S)

    def _to_server(self, client: socket.socket, server: socket.socket, silence: Silence) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(CHUNK):
                where = self._cut_in(data)
                if where is Cut.BEFORE:
                    break
                if where is Cut.AFTER:
                    # The answer means that the server is through; nobody hears it.
                    silence.until = ENDS if COMMIT in data else (b"",)
                server.sendall(data)
        close(client)
        close(server)

    def _cut_in(self, data: bytes) -> Cut | None:
        with self._lock:
            if self._order is None or self._order[0] not in data:
                return None
            what, where, skip = self._order
            self._order = (what, where, skip - 1) if skip else None
            if skip:
                return None
            self.cuts += 1
            return where


def _to_client(server: socket.socket, client: socket.socket, silence: Silence) -> None:
    unheard = b""
    with contextlib.suppress(OSError):
        while data := server.recv(CHUNK):
            if not silence.until:
                client.sendall(data)
                continue
            # Answers to what was sent before come first; to close at once would take the message itself away.
            unheard += data
            if any(end in unheard for end in silence.until):
                break
    close(client)
    close(server)


def close(one: socket.socket) -> None:
    """Closes it, and lets whoever waits on it know."""
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
