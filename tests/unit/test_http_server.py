"""The HTTP server: what it answers, what it refuses, and that no client can keep others from being answered."""

import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ingest.errors import OperatorError
from ingest.observability.server import HEAD_BYTES, MOST_CONNECTIONS, HttpServer, Response, listen
from tests.support.http import fetch
from tests.support.processes import free_ports

CONNECTION_S = 1.0
BIG = b"x" * 20_000_000
OK = Response(200, "text/plain", b"fine\n")


def _fails(_headers: object) -> Response:
    message = "secret"
    raise RuntimeError(message)


@pytest.fixture
def server() -> Iterator[Callable[[str], int]]:
    """Starts a server at an address and returns its port."""
    started: list[HttpServer] = []

    def start(host: str = "127.0.0.1") -> int:
        (port,) = free_ports(1)
        listener = listen(host, port)
        assert listener is not None
        routes = {
            "/": lambda _: OK,
            "/big": lambda _: Response(200, "text/plain", BIG),
            "/fails": _fails,
            "/accept": lambda headers: Response(200, "text/plain", headers["accept"].encode()),
        }
        started.append(HttpServer(listener, routes, CONNECTION_S))
        started[-1].start()
        return port

    yield start
    for one in started:
        one.close()


@pytest.fixture
def port(server: Callable[[str], int]) -> int:
    """The port of a server on loopback."""
    return server("127.0.0.1")


def speak(port: int, request: bytes) -> bytes:
    """Everything that comes back for these bytes, until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(request)
        answer = b""
        while part := client.recv(65536):
            answer += part
        return answer


def _trickle(client: socket.socket, until: float) -> bool:
    """Sends a byte now and then; says whether the other side has had enough before the time."""
    try:
        while time.monotonic() < until:
            client.sendall(b"x")
            time.sleep(0.1)
    except OSError:
        return True
    return False


def _take(client: socket.socket) -> int:
    """How many bytes still come."""
    taken = 0
    try:
        while part := client.recv(1 << 20):
            taken += len(part)
    except ConnectionResetError:
        pass
    return taken


def test_what_is_there_is_answered(port: int) -> None:
    """With its type and length, for no cache to keep and no other page to frame; a query string is of no account."""
    answer = fetch(port, "/?x=1")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"fine\n", "text/plain")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "server" not in answer.headers
    assert fetch(port, "/accept", headers={"Accept": "x/y"}).body == b"x/y"


def test_head_is_answered_without_a_body(port: int) -> None:
    """The same headers, and nothing else."""
    answer = fetch(port, "/", method="HEAD")
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "5", b"")


@pytest.mark.scenario("S12")
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(port: int, method: str) -> None:
    """Only reading is allowed."""
    answer = fetch(port, "/", method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.scenario("S12")
@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/page.html",
        "/..%5c..%5cwindows",
        "/./",
        "/live/",
        "/\x00",
        "http://other/",
    ],
)
def test_no_path_leads_anywhere_else(port: int, path: str) -> None:
    """The list of paths is closed; there are no files behind it."""
    answer = speak(port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1"))
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nno colon\r\nHost: localhost\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * HEAD_BYTES * 2 + b"\r\n\r\n", 431),
    ],
)
def test_heads_of_all_kinds(port: int, request_head: bytes, status: int) -> None:
    """What is not a request is said to be none; what is too long is not read to its end."""
    assert speak(port, request_head).startswith(f"HTTP/1.1 {status} ".encode())


def test_a_failure_is_told_without_its_reason(port: int) -> None:
    """The log has the traceback; whoever asked gets a number."""
    answer = fetch(port, "/fails")
    assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
    assert fetch(port, "/").status == 200


@pytest.mark.scenario("S12")
@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:80", 200), ("127.0.0.1", 200), ("[::1]:9480", 200), ("evil.example:9480", 403), ("10.0.0.1", 403)],
)
def test_a_foreign_name_does_not_lead_to_loopback(port: int, host: str, status: int) -> None:
    """A page on the web whose own name is made to point here cannot read what this process tells."""
    assert fetch(port, "/", headers={"Host": host}).status == status


def test_other_addresses_are_asked_by_any_name(server: Callable[[str], int]) -> None:
    """A probe of Kubernetes uses the pod's address, a scrape whatever leads there."""
    assert fetch(server("0.0.0.0"), "/", headers={"Host": "pod.example"}).status == 200  # noqa: S104 - as in a pod


@pytest.mark.scenario("S12")
def test_slow_clients_keep_nobody_waiting(port: int) -> None:
    """More of them than connections are allowed, each sending a byte now and then: others are answered at once."""
    slow = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(MOST_CONNECTIONS + 20)]
    try:
        for client in slow:
            client.sendall(b"GET / HTTP/1.1\r\n")
        began = time.monotonic()
        for _ in range(5):
            assert fetch(port, "/").status == 200
        assert time.monotonic() - began < 5 * CONNECTION_S
    finally:
        for client in slow:
            client.close()


@pytest.mark.scenario("S12")
def test_a_head_that_trickles_in_is_cut_off(port: int) -> None:
    """The limit is on the whole exchange: a byte every tenth of a second does not extend it."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        began = time.monotonic()
        assert _trickle(client, began + 4 * CONNECTION_S), "it was not cut off"
        assert CONNECTION_S * 0.9 <= time.monotonic() - began < 3 * CONNECTION_S


@pytest.mark.scenario("S12")
def test_an_answer_that_nobody_takes_is_given_up(port: int) -> None:
    """A reader that stops reading is cut off too, and what waited for it is let go."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(2 * CONNECTION_S)  # what is tested is a limit of time
        taken = _take(client)
        assert taken < len(BIG)


def test_an_answer_in_many_pieces_arrives(port: int) -> None:
    """A reader that reads gets all of it."""
    assert len(fetch(port, "/big").body) == len(BIG)


def test_closing_does_not_wait_for_clients() -> None:
    """A process that is told to stop ends, whoever is connected."""
    listener = listen("127.0.0.1", free_ports(1)[0])
    assert listener is not None
    address = listener.getsockname()
    server = HttpServer(listener, {"/": lambda _: OK})
    server.start()
    with socket.create_connection(address) as client:
        client.sendall(b"GET /")
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 2
    assert "http" not in {thread.name for thread in threading.enumerate()}


def test_ports() -> None:
    """None was asked for: the first free one of ten; 0: none at all; a taken one: a person has to know."""
    first, second = listen("127.0.0.1", None), listen("127.0.0.1", None)
    try:
        taken = [listener.getsockname()[1] for listener in (first, second) if listener is not None]
        assert len(set(taken)) == len(taken)
        assert all(9480 <= port < 9490 for port in taken)
        assert listen("127.0.0.1", 0) is None
        for port in taken:
            with pytest.raises(OperatorError, match=rf"http_port {port}: Address already in use"):
                listen("127.0.0.1", port)
        with pytest.raises(OperatorError, match=r"http_host 192\.0\.2\.1"):
            listen("192.0.2.1", free_ports(1)[0])
    finally:
        for listener in (first, second):
            if listener is not None:
                listener.close()


def test_closing_loses_no_connection(server: Callable[[str], int]) -> None:
    """Whoever is connected, or just being let in, is cut off: nothing is left for the garbage collector to close."""
    clients = []
    for _ in range(20):
        listener = listen("127.0.0.1", free_ports(1)[0])
        assert listener is not None
        closing = HttpServer(listener, {"/": lambda _: Response(200, "text/plain", BIG)}, CONNECTION_S)
        closing.start()
        clients += [socket.create_connection(listener.getsockname(), timeout=30) for _ in range(3)]
        clients[-1].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        closing.close()
    del closing
    for client in clients:
        client.close()
    gc.collect()
    assert fetch(server("127.0.0.1"), "/").status == 200
