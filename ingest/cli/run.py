"""`tallystream run`: one worker, until it is told to stop."""

from ingest import wiring
from ingest.cli.common import settings_for, stop_when_told


def run() -> None:
    """Consume events and keep the registers. SIGTERM or Ctrl-C finishes the open batch; a second one stops at once."""
    worker = wiring.build_worker(settings_for("postgres_dsn", "kafka_bootstrap_servers", "topics"))
    stop_when_told(worker.stop)
    worker.run()
