"""Rare states: which of them a run has reached, as logs and tables tell. A run that met nothing rare shows nothing."""

from collections import Counter

from tests.torture.crew import Crew, Member
from tests.torture.mishaps import Mishaps
from tests.torture.stage import Stage
from tests.torture.verdict import Verdict

# Each run has to reach these, however short.
ALWAYS = (
    "bisected batch",
    "compactor failed and tried again",
    "dead letter",
    "deferred fold",
    "duplicate",
    "fenced commit",
    "id_conflict",
    "rebalance under load",
    "spilled digests",
    "stale",
    "unknown outcome: committed",
    "unknown outcome: not committed",
)
# These too, when it goes on long enough for each to have had several chances.
IN_LONG_RUNS = (
    "ended in order after SIGTERM",
    "killed between COMMIT and mirror",
    "partitions lost",
    "recovery with pending deltas",
    "revision_conflict",
    "zombie refused",
)
LONG_S = 240


def reached(stage: Stage, crew: Crew, mishaps: Mishaps, verdict: Verdict) -> Counter[str]:
    """How often each rare state was seen."""
    found = Counter(mishaps.reached)
    outcomes = verdict.outcomes
    found |= {kind: outcomes[kind] for kind in ("duplicate", "stale", "id_conflict", "revision_conflict")}
    found["deferred fold"] = verdict.replaced
    found["dead letter"] = sum(n for kind, n in outcomes.items() if kind not in {"applied", "duplicate", "stale"})
    found["fenced commit"] = crew.fenced()
    found["partitions lost"] = crew.logs(lambda log: log.get("event") == "partitions lost")
    found["rebalance under load"] = crew.rebalanced()
    found["compactor failed and tried again"] = crew.folded_again()
    found["ended in order after SIGTERM"] = sum(member.program.code == 0 for member in crew.everybody)
    found["zombie refused"] = sum(map(_was_refused, crew.everybody))
    for standing in ("committed", "not_committed", "fenced"):
        found[f"unknown outcome: {standing.replace('_', ' ')}"] = crew.resolved(standing)
    with stage.connect(options="-c search_path=accum") as connection:
        for what, statement in TABLES.items():
            row = connection.execute(statement.encode()).fetchone()
            found[what] = int(row[0]) if row else 0
    return found


# What only tables tell.
TABLES = {
    "bisected batch": "SELECT count(*) FROM _dead_letters AS d INNER JOIN _batches AS b USING (batch_id, position_id)"
    " WHERE d.reason = 'refused_by_database' AND b.events > 1",
    "spilled digests": "SELECT count(*) FROM stock_recorder_events",
}


def _was_refused(member: Member) -> bool:
    """Whether a worker that was frozen learned afterwards that others have its partitions."""
    if member.thawed_at_log is None:
        return False
    after = member.program.lines[member.thawed_at_log :]
    return any("fenced: " in line or '"partitions lost"' in line for line in after)
