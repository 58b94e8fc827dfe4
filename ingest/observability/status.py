"""What /status.json says: everything that the page shows, as plain values. No payload, no error text of a server."""

from collections.abc import Mapping
from dataclasses import asdict

from ingest import __version__
from ingest.domain.overview import Overview
from ingest.domain.plans import Outcome
from ingest.domain.progress import READING, Progress, Tally
from ingest.observability.metrics import Moment


def worker_status(moment: Moment[Progress], about: Mapping[str, object]) -> dict[str, object]:
    """Describe a worker."""
    work = moment.work
    return {
        **_common(moment, about),
        "role": "worker",
        "kafka_up": work.kafka.connected,
        "counts": work.summary(),
        "movements_by_register": dict(sorted(work.registers.copy().items())),
        "outcomes": {outcome.value: work.outcomes[outcome] for outcome in Outcome},
        "refused": {reason.value: count for reason, count in sorted(work.reasons.copy().items()) if count},
        "phases": [
            {"name": name, "thread": "reading" if name in READING else "applying", "seconds": spent}
            for name, spent in work.seconds.copy().items()
        ],
        "partitions": _partitions(moment),
    }


def compactor_status(moment: Moment[Tally], about: Mapping[str, object]) -> dict[str, object]:
    """Describe a compactor."""
    work = moment.work
    return {
        **_common(moment, about),
        "role": "compactor",
        "counts": work.summary(),
        "phases": [
            {"name": name, "thread": "compactor", "seconds": spent} for name, spent in work.seconds.copy().items()
        ],
    }


def _common(moment: Moment[Progress] | Moment[Tally], about: Mapping[str, object]) -> dict[str, object]:
    return {
        **about,
        "version": __version__,
        "at_ms": round(moment.wall_ms),
        "clock_s": moment.now,
        "postgres_up": moment.postgres_up,
        "live": [asdict(check) for check in moment.health.live],
        "ready": [asdict(check) for check in moment.health.ready],
        "database": None if moment.overview is None else _overview(moment.overview),
    }


def _partitions(moment: Moment[Progress]) -> list[dict[str, object]]:
    work = moment.work
    read = {
        tp: {
            "position": reach.next_offset,
            "lag_records": reach.lag_records,
            "lag_seconds": reach.lag_s(moment.now, moment.wall_ms),
            "held_back": 0 if reach.end is None else reach.end.held_back,
            "stopped": None,
        }
        for tp, reach in work.reaches.copy().items()
    }
    stopped = {tp: {"stopped": str(error)} for tp, error in work.stopped.copy().items()}
    both = sorted((read | stopped).items())
    return [{"topic": tp.topic, "partition": tp.partition, **told} for tp, told in both]


def _overview(overview: Overview) -> dict[str, object]:
    pending = {each.register: each for each in overview.pending}
    return {
        "registers": [
            {
                "name": register.name,
                "kind": register.kind.value,
                "dimensions": [column.name for column in register.dimensions],
                "resources": [column.name for column in register.resources],
                "high_write": register.high_write,
                "pending": pending[register.name].deltas if register.name in pending else 0,
                "pending_age_s": pending[register.name].age_s if register.name in pending else None,
            }
            for register in overview.registers
        ],
        "waiting": dict(overview.waiting),
        "letters": [{**asdict(letter), "created_at": letter.created_at.isoformat()} for letter in overview.letters],
    }
