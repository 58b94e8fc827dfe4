"""`tallystream run`: one worker, until it is told to stop."""

import os
import signal
from types import FrameType

import structlog

from ingest import wiring
from ingest.cli.common import settings_for

_log = structlog.get_logger(__name__)


def run() -> None:
    """Consume events and keep the registers. SIGTERM or Ctrl-C finishes the open batch; a second one stops at once."""
    settings = settings_for("postgres_dsn", "kafka_bootstrap_servers", "topics")
    worker = wiring.build_worker(settings)
    asked = False

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            # Nothing has to be tidied up: what is not committed is read again.
            os._exit(128 + number)
        asked = True
        worker.stop()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    worker.run()
