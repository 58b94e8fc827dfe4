"""What a process tells over HTTP: /live, /ready, /metrics, /status.json and the page that shows it.

    with Monitor(...):      # for as long as the loop runs
        worker.run()

Nothing here can stop the loop or make it wait: it reads what the loop wrote down.
"""

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from importlib.resources import files
from types import TracebackType
from typing import Generic, Self, TypeVar

import structlog

from ingest.domain.health import Check, Health
from ingest.domain.overview import Overview
from ingest.domain.progress import Work
from ingest.observability.lookout import Lookout
from ingest.observability.metrics import Metric, Moment, exposition
from ingest.observability.server import Answer, HttpServer, Response, listen

T = TypeVar("T", bound=Work)

_log = structlog.get_logger(__name__)


class Monitor(Generic[T]):
    """Serves one process's health, metrics and status."""

    def __init__(
        self,
        work: T,
        table: tuple[Metric[T], ...],
        judge: Callable[[T, bool], Health],
        describe: Callable[[Moment[T]], dict[str, object]],
        lookout: Lookout,
        address: tuple[str, int | None],
        lines_dropped: Callable[[], int],
    ) -> None:
        self._work = work
        self._judge = judge
        self._describe = describe
        self._lookout = lookout
        self._lines_dropped = lines_dropped
        self._metrics = exposition(table, lambda: self._moment(lookout.overview))
        listener = listen(*address)
        self._server = None if listener is None else HttpServer(listener, self._routes())

    def __enter__(self) -> Self:
        """Begin to serve."""
        if self._server is not None:
            self._lookout.start()
            self._server.start()
            _log.info("serving health, metrics and the status page", url=self._server.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        if self._server is not None:
            self._lookout.stop()
            self._server.close()

    def _routes(self) -> Mapping[str, Answer]:
        page = _page()
        return {
            "/": lambda _: page,
            "/live": lambda _: _verdict(self._health().live),
            "/ready": lambda _: _verdict(self._health().ready),
            "/metrics": self._scrape,
            "/status.json": lambda _: _json(200, self._describe(self._moment(self._lookout.watch()))),
        }

    def _scrape(self, headers: Mapping[str, str]) -> Response:
        content_type, body = self._metrics(headers.get("accept", ""))
        return Response(200, content_type, body)

    def _health(self) -> Health:
        return self._judge(self._work, self._lookout.is_up)

    def _moment(self, overview: Overview | None) -> Moment[T]:
        return Moment(
            work=self._work,
            health=self._health(),
            postgres_up=self._lookout.is_up,
            overview=overview,
            lines_dropped=self._lines_dropped(),
            now=time.monotonic(),
            wall_ms=time.time() * 1000,
        )


def _verdict(checks: tuple[Check, ...]) -> Response:
    ok = all(check.ok for check in checks)
    told = [{"check": each.name, "ok": each.ok} | ({} if each.ok else {"meaning": each.meaning}) for each in checks]
    return _json(200 if ok else 503, {"ok": ok, "checks": told})


def _json(status: int, content: Mapping[str, object]) -> Response:
    return Response(status, "application/json; charset=utf-8", json.dumps(content).encode() + b"\n")


def _page() -> Response:
    """The page, and a policy that lets it run exactly the script and the styles that it came with."""
    text = (files("ingest.observability") / "page.html").read_text(encoding="utf-8")
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hashes(text, 'script')}",
            f"style-src {_hashes(text, 'style')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
    return Response(200, "text/html; charset=utf-8", text.encode(), policy)


def _hashes(text: str, element: str) -> str:
    found = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in found)
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
