"""`tallystream run`: one worker, until it is told to stop."""

import gc

from ingest.cli.common import logs_that_never_wait, settings_for, stop_when_told
from ingest.wiring import observing, processes
from ingest.wiring.starting import Start


def run() -> None:
    """Consume events and keep the registers. SIGTERM or Ctrl-C finishes the open batch; a second one stops at once."""
    settings = settings_for("postgres_dsn", "kafka_bootstrap_servers", "topics")
    with logs_that_never_wait(settings) as log, observing.traced(settings) as traced:
        worker = processes.build_worker(settings, traced)
        start = Start(settings, worker.stop)
        stop_when_told(start.stop)
        with observing.watch_worker(settings, worker, lambda: log.dropped):
            start.wait_for_schema()
            # What is there now stays to the end. Looking through all of it kept everything waiting for 69 ms at a time.
            gc.freeze()
            worker.run()
