"""Builds what watches a process: its health, metrics and status over HTTP, and traces where they are asked for."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any, Final

from ingest import __version__
from ingest.compactor import Compactor
from ingest.domain.applying import Store
from ingest.domain.health import compactor_health, worker_health
from ingest.domain.progress import Progress, Tally
from ingest.errors import SettingsError
from ingest.observability.lookout import Lookout
from ingest.observability.metrics import COMPACTOR, WORKER
from ingest.observability.monitor import Monitor
from ingest.observability.status import compactor_status, worker_status
from ingest.postgres.overview import Overlook
from ingest.settings import Settings
from ingest.wiring.parts import SteadyClock, database, worker_name
from ingest.worker import Worker

LOOK_TIMEOUT_MS: Final = 5_000
FLUSH_TIMEOUT_S: Final = 2.0


def watch_worker(settings: Settings, worker: Worker, lines_dropped: Callable[[], int]) -> Monitor[Progress]:
    """Return what serves a worker's health, metrics and status."""
    clock, timeout_s = SteadyClock(), settings.live_timeout_ms / 1000
    about = {
        "name": worker_name(),
        "group": settings.group,
        "topics": list(settings.topics),
        "lanes": settings.lanes,
    }
    return Monitor(
        worker.progress,
        WORKER,
        lambda work, up: worker_health(work, postgres_up=up, now=clock.now(), live_timeout_s=timeout_s),
        lambda moment: worker_status(moment, about),
        Lookout(overlook(settings)),
        (settings.http_host, settings.http_port),
        lines_dropped,
    )


def watch_compactor(settings: Settings, compactor: Compactor, lines_dropped: Callable[[], int]) -> Monitor[Tally]:
    """Return what serves a compactor's health, metrics and status."""
    clock, timeout_s = SteadyClock(), settings.live_timeout_ms / 1000
    about = {"name": worker_name()}
    return Monitor(
        compactor.tally,
        COMPACTOR,
        lambda work, up: compactor_health(work, postgres_up=up, now=clock.now(), live_timeout_s=timeout_s),
        lambda moment: compactor_status(moment, about),
        Lookout(overlook(settings), always=True),
        (settings.http_host, settings.http_port),
        lines_dropped,
    )


def overlook(settings: Settings) -> Overlook:
    """Return what asks PostgreSQL how it is; it waits no longer than an answer is worth."""
    access = database(settings)
    return Overlook(
        replace(
            access,
            connect_timeout_ms=min(access.connect_timeout_ms, LOOK_TIMEOUT_MS),
            statement_timeout_ms=min(access.statement_timeout_ms, LOOK_TIMEOUT_MS),
            lock_timeout_ms=min(access.lock_timeout_ms, LOOK_TIMEOUT_MS),
        )
    )


@contextmanager
def traced(settings: Settings) -> Iterator[Callable[[Store], Store]]:
    """Give what puts a span around each batch that a store applies; without the setting it is the store itself."""
    if not settings.tracing:
        yield lambda store: store
        return
    try:
        provider = _provider(settings)
    except ImportError:
        message = "tracing is on, but what it needs is not installed: pip install 'tallystream[tracing]'"
        raise SettingsError(message) from None
    tracer = provider.get_tracer("tallystream", __version__)
    traced_store = import_module("ingest.observability.tracing").TracedStore
    try:
        yield lambda store: traced_store(store, tracer)
    finally:
        # A collector that is away would make it wait for long: spans are worth less than an orderly end.
        closing = threading.Thread(target=provider.shutdown, name="send spans", daemon=True)
        closing.start()
        closing.join(FLUSH_TIMEOUT_S)


def _provider(settings: Settings) -> Any:  # noqa: ANN401 - of a package that may not be there
    """What makes spans and sends them by OTLP over HTTP; imported here, because it is an extra."""
    sdk = import_module("opentelemetry.sdk.trace")
    export = import_module("opentelemetry.sdk.trace.export")
    resources = import_module("opentelemetry.sdk.resources")
    exporter = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter").OTLPSpanExporter
    about = {"service.name": settings.group, "service.version": __version__, "service.instance.id": worker_name()}
    # What the operator says in OpenTelemetry's own variables comes last, and counts.
    resource = resources.Resource.create(about).merge(resources.OTELResourceDetector().detect())
    provider = sdk.TracerProvider(resource=resource)
    provider.add_span_processor(export.BatchSpanProcessor(exporter()))
    return provider
