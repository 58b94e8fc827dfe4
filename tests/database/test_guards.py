"""What nobody may do by hand, the owner included, whatever was set before."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.pipeline import Pipeline, line, movement
from tests.support.postgres import Database

DERIVED = ("inventory_totals_day", "inventory_totals_month", "inventory_totals_year", "inventory_balance_cache")
HIDDEN = "inventory_pending_folds"
PARTITION = "inventory_movements_2026_04"

DIRECT = [
    "INSERT INTO {table} SELECT * FROM {table}",
    "UPDATE {table} SET dim_hash = dim_hash",
    "UPDATE {table} SET dim_hash = 0 WHERE false",
    "DELETE FROM {table}",
    "TRUNCATE {table}",
    "TRUNCATE {table} CASCADE",
    "COPY {table} FROM STDIN",
    "WITH gone AS (DELETE FROM {table} RETURNING *) SELECT 1 FROM gone",
    "MERGE INTO {table} AS t USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE",
    "MERGE INTO {table} AS t USING (SELECT 1) AS s ON true WHEN MATCHED THEN UPDATE SET dim_hash = 1",
]
ON_MOVEMENTS = [
    "UPDATE inventory_movements SET quantity = 1",
    "UPDATE inventory_movements SET recorder = 'another' WHERE false",
    "UPDATE ONLY inventory_movements SET quantity = 1",
    "TRUNCATE inventory_movements",
    "TRUNCATE inventory_movements CASCADE",
    "TRUNCATE ONLY inventory_movements_2026_04",
    "TRUNCATE inventory_movements RESTART IDENTITY",
    "MERGE INTO inventory_movements AS m USING (SELECT 1) AS s ON true WHEN MATCHED THEN UPDATE SET quantity = 1",
    "INSERT INTO {partition} (recorder, period) VALUES ('r', '2026-04-02 00:00+00')",
    "INSERT INTO {partition} (recorder, period) SELECT recorder, period FROM {partition}",
    "UPDATE {partition} SET quantity = 1",
    "DELETE FROM {partition}",
    "TRUNCATE {partition}",
    "COPY {partition} (id, recorder, period) FROM STDIN",
]
SETTINGS = [
    "SELECT 1",
    "SET tallystream.defer_fold = 'on'",
    "SET row_security = off",
    "SET CONSTRAINTS ALL DEFERRED",
    "SET check_function_bodies = off",
    "SET plpgsql.variable_conflict = 'use_column'",
    "SET search_path = pg_temp, accum",
]


@pytest.fixture(scope="module")
def filled(shop_database: Database) -> Iterator[Pipeline]:
    """One database for all of these: nothing that is tried changes anything."""
    pipeline = Pipeline(shop_database)
    pipeline.send(movement("r1", line(1, "5")))
    pipeline.consumer().apply()
    yield pipeline
    with pipeline.database.connect() as owner:
        owner.execute("SELECT accum.register_drop('inventory', true)")
    pipeline.close()


def sqlstate_of(pipeline: Pipeline, setting: str, statement: str) -> str | None:
    """How the statement is refused, in a session where something was set."""
    with pipeline.database.connect(options="-c search_path=accum", autocommit=False) as session:
        session.execute(setting.encode())
        try:
            if statement.startswith("COPY"):
                with session.cursor() as cursor, cursor.copy(statement.encode()) as copy:
                    copy.write_row(("1", "r", "2026-04-02 00:00+00"))
            else:
                session.execute(statement.encode())
        except psycopg.Error as error:
            return error.sqlstate
        finally:
            session.rollback()
    return None


@pytest.mark.parametrize("statement", DIRECT)
def test_derived_tables_are_changed_by_folds_alone(filled: Pipeline, statement: str) -> None:
    """No statement that names a table of totals or balances gets through, not even one that finds no row."""
    for table in DERIVED:
        assert sqlstate_of(filled, "SELECT 1", statement.format(table=table)) == "TS020", table


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_setting_lifts_the_guards(filled: Pipeline, setting: str) -> None:
    """What a session can set makes no difference."""
    for statement in ("DELETE FROM inventory_balance_cache", "TRUNCATE inventory_totals_year"):
        assert sqlstate_of(filled, setting, statement) == "TS020"
    for statement in ("UPDATE inventory_movements SET quantity = 1", f"DELETE FROM {PARTITION}"):  # noqa: S608
        assert sqlstate_of(filled, setting, statement) == "TS022"


@pytest.mark.parametrize("statement", ON_MOVEMENTS)
def test_movements_are_not_changed_in_place(filled: Pipeline, statement: str) -> None:
    """UPDATE and TRUNCATE of movements, and every write to one partition, would go past the fold."""
    assert sqlstate_of(filled, "SELECT 1", statement.format(partition=PARTITION)) == "TS022"


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO {table} (deltas) VALUES ('{{}}')",
        "DELETE FROM {table}",
        "TRUNCATE {table}",
        "UPDATE {table} SET deltas = deltas",
    ],
)
def test_what_waits_for_a_fold_cannot_be_touched(filled: Pipeline, statement: str) -> None:
    """A delta that was planted or taken away there would be as good as a change of the totals."""
    assert sqlstate_of(filled, "SELECT 1", statement.format(table=HIDDEN)) == "TS020"


def test_triggers_cannot_be_switched_off_by_a_setting(filled: Pipeline) -> None:
    """An ordinary role, the owner too, may not set session_replication_role, which would."""
    assert sqlstate_of(filled, "SELECT 1", "SET session_replication_role = 'replica'") == "42501"


def test_refusals_say_what_to_do(filled: Pipeline) -> None:
    """The message names statement and table, the hint the way that is right."""
    with filled.database.connect(options="-c search_path=accum") as session:
        with pytest.raises(psycopg.Error, match="TRUNCATE on inventory_totals_day is refused") as derived:
            session.execute("TRUNCATE inventory_totals_day")
        assert "Write movements instead" in (derived.value.diag.message_hint or "")
        with pytest.raises(psycopg.Error, match="UPDATE on inventory_movements is refused") as movements:
            session.execute("UPDATE inventory_movements SET quantity = 1")
        assert "register_repost" in (movements.value.diag.message_hint or "")


def test_everything_is_as_it_was(filled: Pipeline) -> None:
    """After all that was tried."""
    assert filled.balances() == {(1, 1, "A"): 5}
    filled.check()
