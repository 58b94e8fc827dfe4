"""Through PgBouncer in transaction mode: a transaction may meet any session, and what others left in it."""

from collections.abc import Callable

import psycopg
from psycopg.types.json import Jsonb

from tests.support.pipeline import Pipeline, line, movement, repost, unpost
from tests.support.postgres import SCHEMA, Database
from tests.support.program import run_tallystream
from tests.support.registers import element
from tests.support.sessions import together

Pooled = Callable[[Database], str]

# What somebody's session may leave behind in a pool: nothing resets it in transaction mode.
LEFT_BEHIND = (
    "SET tallystream.defer_fold = 'on'",
    "SET TimeZone = 'Pacific/Kiritimati'",
    "SET DateStyle = 'German'",
    "SET search_path = pg_catalog",
)


def connect(dsn: str) -> psycopg.Connection:
    """As an application does that knows of the pooler: no prepared statements."""
    return psycopg.connect(dsn, autocommit=True, prepare_threshold=None)


def leave_behind(dsn: str) -> None:
    """Settings in both sessions of the pool; each is held by a transaction while the other one is met."""
    with connect(dsn) as one, connect(dsn) as other, one.transaction(), other.transaction():
        for statement in LEFT_BEHIND:
            one.execute(statement.encode())
            other.execute(statement.encode())


def test_workers_apply_through_a_pooler(pipeline: Pipeline, pooled: Pooled) -> None:
    """More workers and readers than server sessions: claims, batches, replacements and removals are right."""
    dsn = pooled(pipeline.database)
    leave_behind(dsn)
    pipeline.send(*[movement(f"r{n}", line(n % 3, "1"), period="2026-03-31T23:30:00Z") for n in range(20)])
    for number in range(3):
        consumer = pipeline.consumer()
        consumer.store = pipeline.store(f"w{number}", dsn=dsn)
        consumer.claim()
        pipeline.send(repost(f"r{number}", line(7, "5")), unpost(f"r{number + 10}"))
        applied = consumer.apply()
        assert applied.movements > 0
        pipeline.check()
    assert pipeline.balances()[1, 7, "A"] == 15
    assert pipeline.count("inventory_movements") == 17
    (days,) = zip(*pipeline.rows("SELECT DISTINCT period::text FROM inventory_turnovers_day ORDER BY 1"), strict=True)
    assert days == ("2026-03-31", "2026-04-18")


def test_the_contract_holds_through_a_pooler(database: Database, pooled: Pooled) -> None:
    """Commands and functions, with sessions that others have used before."""
    dsn = pooled(database)
    leave_behind(dsn)
    env = {"TALLYSTREAM_POSTGRES_DSN": dsn, "TALLYSTREAM_SCHEMA_NAME": SCHEMA}
    assert "is up to date" in run_tallystream("migrate", env=env).check().out
    with connect(dsn) as session:
        session.execute(
            f"SELECT {SCHEMA}.register_create('stock', %s, %s, time_zone => 'Europe/London')",
            [Jsonb({"lot": "text", "warehouse": "int"}), Jsonb({"quantity": "numeric(18,3)"})],
        )

    def post(number: int) -> Callable[[], None]:
        def work() -> None:
            with connect(dsn) as session:
                for turn in range(10):
                    data = [element(None, f"2026-0{1 + turn % 6}-01", cell, "x", quantity=1) for cell in range(5)]
                    session.execute(
                        f"SELECT {SCHEMA}.register_repost('stock', %s, %s)", [f"r{number + turn % 2}", Jsonb(data)]
                    )

        return work

    assert together(*[post(number) for number in range(6)]) == [None] * 6
    with connect(dsn) as session:
        answer = session.execute(f"SELECT ({SCHEMA}.stock_balance() -> 'quantity')::int").fetchone()
        assert answer == (7 * 5,)
    assert run_tallystream("verify", "stock", env=env).check().out == "stock: right (balance, day, month, year)\n"
