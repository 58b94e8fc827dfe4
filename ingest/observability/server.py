"""A small HTTP server for probes, scrapes and the status page: a closed list of paths, each answered from memory.

Python's own asyncio rather than a web framework: one thread, nothing to configure, and limits that hold for a whole
connection. It reads one request head of bounded size, answers and closes; a client that sends or takes its bytes
slowly is cut off after a total time, whatever it does meanwhile; when too many connections are open the oldest goes.
No file system is behind the paths, and nothing can be changed through them.
"""

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from ingest.errors import OperatorError

HEAD_BYTES: Final = 8 * 1024
CONNECTION_S: Final = 5.0
MOST_CONNECTIONS: Final = 64
STOP_S: Final = 2.0
FIRST_PORTS: Final = range(9480, 9490)

_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_TEXT: Final = "text/plain; charset=utf-8"
_NO_CONTENT_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Response:
    """What a path answers."""

    status: int
    content_type: str
    body: bytes
    content_policy: str = _NO_CONTENT_POLICY


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    headers: Mapping[str, str]


# Of the event loop: to accept a connection takes four, to close one takes two.
_TURNS = 8

Answer = Callable[[Mapping[str, str]], Response]
"""Takes the request's headers, their names in lower case."""


def listen(host: str, port: int | None) -> socket.socket | None:
    """Open the listening socket: the first free port of ten when none was asked for; None when it shall not be."""
    if port == 0:
        return None
    for candidate in FIRST_PORTS if port is None else (port,):
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, candidate), family=family, backlog=MOST_CONNECTIONS)
        except (OSError, UnicodeError) as error:
            if port is not None:
                reason = getattr(error, "strerror", None) or str(error)
                message = f"http_host {host}, http_port {port}: {reason}; choose others, or http_port 0 for none"
                raise OperatorError(message) from None
    _log.warning("no port for health and metrics is free; set http_port", host=host, ports="9480-9489")
    return None


class HttpServer:
    """Serves in a thread of its own, until closed."""

    def __init__(
        self, listener: socket.socket, routes: Mapping[str, Answer], connection_s: float = CONNECTION_S
    ) -> None:
        self._listener = listener
        self._routes = routes
        self._connection_s = connection_s
        self._local_only = _is_loopback(listener.getsockname()[0])
        self._open: dict[asyncio.Task[None], None] = {}
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def url(self) -> str:
        """Where it is to be found from this machine."""
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(STOP_S)
        self._listener.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._listen())
        self._loop.close()

    async def _listen(self) -> None:
        serve, at = self._serve, self._listener
        server = await asyncio.start_server(serve, sock=at, limit=HEAD_BYTES, backlog=MOST_CONNECTIONS)
        await self._closing.wait()
        # Nobody is let in any more; who has just been gets as far as what can be cut off. A closed server loses them.
        self._loop.remove_reader(at)
        await self._turn()
        server.close()
        open_now = list(self._open)
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)
        await self._turn()

    async def _turn(self) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        if len(self._open) >= MOST_CONNECTIONS:
            next(iter(self._open)).cancel()
        self._open[task] = None
        try:
            async with asyncio.timeout(self._connection_s):
                with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                    writer.write(await self._exchange(reader))
                    writer.close()
                    await writer.wait_closed()
        except (TimeoutError, asyncio.CancelledError):
            pass  # cut off: nobody waits for the answer, or too many are waiting
        finally:
            self._open.pop(task, None)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _message(_say(431))
        request = _parse(head)
        if request is None:
            return _message(_say(400))
        response = self._answer(request)
        return _message(response, with_body=request.method != "HEAD")

    def _answer(self, request: _Request) -> Response:
        if request.method not in {"GET", "HEAD"}:
            return _say(405)
        if self._local_only and not _names_loopback(request.headers.get("host", "")):
            # A page on the web may have its own name lead to this address, and read what the browser gets.
            return _say(403)
        answer = self._routes.get(request.path)
        if answer is None:
            return _say(404)
        try:
            return answer(request.headers)
        except Exception:  # noqa: BLE001 - logged, and told to whoever asked
            _log.exception("a request could not be answered", path=request.path)
            return _say(500)


def _parse(head: bytes) -> _Request | None:
    first, *lines = head.decode("latin-1").split("\r\n")
    match first.split(" "):
        case [method, target, "HTTP/1.0" | "HTTP/1.1"]:
            pairs = (line.partition(":") for line in lines if line)
            headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
            return _Request(method, target.partition("?")[0], headers)
    return None


def _say(status: int) -> Response:
    return Response(status, _TEXT, f"{_REASONS[status]}\n".encode())


def _message(response: Response, *, with_body: bool = True) -> bytes:
    head = [
        f"HTTP/1.1 {response.status} {_REASONS[response.status]}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        f"Content-Security-Policy: {response.content_policy}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Referrer-Policy: no-referrer",
        "Connection: close",
    ]
    if response.status == 405:  # noqa: PLR2004 - its meaning is in the table above
        head.append("Allow: GET, HEAD")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + (response.body if with_body else b"")


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _names_loopback(host: str) -> bool:
    """Whether a header Host is this machine's own; HTTP/1.0 may have none."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    name = name.strip("[]").lower()
    if name in {"", "localhost"}:
        return True
    try:
        return _is_loopback(name)
    except ValueError:
        return False
