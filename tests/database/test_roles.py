"""Roles: what each may do is what the contract says, it is enough for the role's work, and nothing leads around it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

from ingest.postgres import migrations
from ingest.postgres.housekeeping import Housekeeper
from ingest.postgres.status import read_positions
from tests.support.downloads import ROOT
from tests.support.local_postgres import LocalPostgres
from tests.support.pipeline import GROUP, PERIOD, Pipeline, access_to, line, movement, repost, unpost
from tests.support.postgres import Database, wanted_version
from tests.support.privileges import EVERYBODY, INGEST, OWNER, READER, create_roles, matrix
from tests.support.program import run_tallystream
from tests.support.registers import DIMENSIONS, RESOURCES, element

DERIVED = "balance_cache", "totals_day", "totals_month", "totals_year", "opening", "pending_folds"
CHANGES = "INSERT INTO {} SELECT * FROM {}", "UPDATE {} SET quantity = 1", "DELETE FROM {}", "TRUNCATE {}"
# What a register's reader calls, with arguments.
READS = {
    "inventory_balance": """('{"warehouse": 1}', '2026-04-30')""",
    "inventory_balance_at": "('2026-04-30')",
    "inventory_balance_at_instant": "('2026-04-30T12:00:00Z')",
    "inventory_balance_by": """('["product"]')""",
    "inventory_movements": "('r1')",
    "inventory_turnover": """('2026-01-01', '2026-12-31', '{}', '["lot"]')""",
    "inventory_turnover_between": "('2026-01-01', '2026-12-31')",
    "inventory_turnover_between_instants": "('2026-04-01T00:00:00Z', '2026-04-30T12:00:00Z')",
    "register_list": "()",
    "register_info": "('inventory')",
    "register_explain": "('inventory', 'r1')",
    "register_partitions": "('inventory')",
    "register_stats": "('inventory')",
    "register_verify": "('inventory')",
    "wait_for_event": "('events', 0, 0, '0 s')",
}
READABLE = """
    SELECT DISTINCT p.proname FROM pg_proc AS p
    WHERE p.pronamespace = 'accum'::regnamespace AND has_function_privilege('tallystream_reader', p.oid, 'EXECUTE')
"""
OWNERS = """
    SELECT DISTINCT pg_get_userbyid(c.relowner) FROM pg_class AS c WHERE c.relnamespace = 'accum'::regnamespace
    UNION SELECT DISTINCT pg_get_userbyid(p.proowner) FROM pg_proc AS p WHERE p.pronamespace = 'accum'::regnamespace
    UNION SELECT pg_get_userbyid(n.nspowner) FROM pg_namespace AS n WHERE n.nspname = 'accum'
"""
CLIMB = """
    CREATE FUNCTION climb() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN DELETE FROM accum.inventory_{}; RETURN NULL; END'
"""
UNPINNED = """
    SELECT p.proname FROM pg_proc AS p
    WHERE p.pronamespace = 'accum'::regnamespace AND p.prosecdef
    AND NOT coalesce(p.proconfig @> ARRAY['search_path=accum, pg_temp'], false)
"""


class Server:
    """A server with the roles of the contract, and databases on it."""

    def __init__(self, server: LocalPostgres) -> None:
        self.server = server
        self.run("CREATE ROLE before LOGIN")
        self.early = self.database("early", "before")
        migrate(self.early).check()
        with psycopg.connect(server.dsn, autocommit=True) as admin:
            create_roles(admin)

    def run(self, statement: str, name: str = "postgres") -> None:
        with psycopg.connect(make_conninfo(self.server.dsn, dbname=name), autocommit=True) as admin:
            admin.execute(statement.encode())

    def database(self, name: str, owner: str) -> Database:
        self.run(f"CREATE DATABASE {name} OWNER {owner}")
        admin_dsn = make_conninfo(self.server.dsn, dbname=name)
        return Database(name, owner, make_conninfo(admin_dsn, user=owner), admin_dsn)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of its own: roles belong to a whole server."""
    own = LocalPostgres(wanted_version(), durable=False)
    try:
        own.start()
        yield Server(own)
    finally:
        own.close()


@pytest.fixture(scope="module")
def shop(server: Server) -> Iterator[Pipeline]:
    """The register `inventory` in a database of tallystream_owner, with one event applied."""
    database = server.database("shop", OWNER)
    migrate(database).check()
    pipeline = Pipeline(database)
    pipeline.send(movement("r1", line(1, "5")))
    pipeline.consumer().apply()
    yield pipeline
    pipeline.close()


def migrate(database: Database) -> Any:  # noqa: ANN401 - what the command did
    """As whoever the database is given as."""
    return run_tallystream("migrate", env={"TALLYSTREAM_POSTGRES_DSN": database.dsn})


def as_role(database: Database, role: str) -> Database:
    """The same database for somebody else."""
    return replace(database, dsn=make_conninfo(database.dsn, user=role))


def refusal(database: Database, role: str, *statements: str) -> str | None:
    """The SQLSTATE with which the last of the statements is refused to a role."""
    with as_role(database, role).connect(autocommit=False, options="-c search_path=accum") as session:
        *before, last = statements
        for statement in before:
            session.execute(statement.encode())
        try:
            session.execute(last.encode())
        except psycopg.Error as error:
            return error.sqlstate
        finally:
            session.rollback()
    return None


@pytest.mark.scenario("S5")
def test_the_matrix_is_what_the_file_says(shop: Pipeline) -> None:
    """Every object, every role, every privilege; `make generate` writes it anew."""
    with shop.database.connect_as_admin() as admin:
        assert matrix(admin) == (ROOT / "docs" / "privileges.md").read_text(encoding="utf-8")


@pytest.mark.scenario("S7")
def test_functions_that_run_as_owner_are_pinned(shop: Pipeline) -> None:
    """Nobody slips an object of his own under one of their names."""
    assert shop.rows(UNPINNED) == []
    shadow = (
        "CREATE TEMP TABLE inventory_balances AS SELECT 1 AS dim_hash, 1 AS warehouse, 1 AS product, 'A' AS lot,"
        " 666 AS quantity, 666 AS amount"
    )
    with as_role(shop.database, READER).connect(options="-c search_path=pg_temp,accum") as session:
        session.execute(shadow)
        row = session.execute("SELECT accum.inventory_balance() ->> 'quantity'").fetchone()
    assert row == ("5.000",)


def test_a_worker_needs_no_more_than_its_role(server: Server) -> None:
    """Whole batches of every kind, new partitions, refused events, and what operators do with those."""
    database = server.database("worker", OWNER)
    migrate(database).check()
    pipeline = Pipeline(database)
    ingest = access_to(as_role(database, INGEST))
    migrations.check(ingest)
    store = pipeline.store(dsn=as_role(database, INGEST).dsn)
    store.registry()
    consumer = pipeline.consumer()
    consumer.store = store
    consumer.claim()
    # More events of one recorder than its row remembers, what replaces, what removes, and what is refused.
    pipeline.send(*(movement("many", line(1, str(n)), id=f"m{n}") for n in range(1, 101)))
    pipeline.send(repost("many", line(1, "7"), period="2031-01-01T00:00:00Z"), unpost("many", id="u"))
    pipeline.send(b"nonsense", movement("r1", line(1, "1"), register="other"), repost("r2", line(1, "5")))
    pipeline.send(movement("r3", line(1, "1"), line(1, "2", lot="B")))
    consumer.apply(consumer.batch(most=50))
    consumer.apply()
    assert pipeline.balances() == {(1, 1, "A"): 6, (1, 1, "B"): 2}
    assert len(read_positions(ingest, GROUP)) == 1
    env = {"TALLYSTREAM_POSTGRES_DSN": as_role(database, INGEST).dsn, "TALLYSTREAM_GROUP": GROUP}
    waiting = "dead letters waiting: 1 not_json, 1 unknown_register"
    assert waiting in run_tallystream("status", env=env).check().out
    create = "SELECT register_create('other', %s, %s, high_write => true)"
    pipeline.rows(create, [Jsonb(DIMENSIONS), Jsonb(RESOURCES)])
    pipeline.rows("SELECT register_post('other', %s)", [Jsonb(element("r", "2026-04-18", 1, "x", quantity=1))])
    assert refusal(database, INGEST, "DELETE FROM other_balance_cache_delta") == "42501"
    with as_role(database, INGEST).connect() as compactor:
        merge = "SELECT merged FROM accum._merge_slice('other', '0 s', 10)"
        assert compactor.execute(merge).fetchone() == (1,)
    compact = {**env, "TALLYSTREAM_BATCH_RETENTION_DAYS": "1", "TALLYSTREAM_DEAD_LETTER_RETENTION_DAYS": "1"}
    compact["TALLYSTREAM_ALLOW_PRIVILEGED_ROLE"] = "false"
    run_tallystream("compact", "--once", env=compact).check()
    relayed: list[object] = []
    assert (Housekeeper(ingest).relay(relayed.extend), len(relayed)) == (2, 2)
    assert Housekeeper(ingest).create_partitions(400) > 0
    letters = json.loads(run_tallystream("dead-letters", "list", "--json", env=env).check().out)
    assert [letter["reason"] for letter in letters] == ["unknown_register", "not_json"]
    run_tallystream("dead-letters", "retry", "--all", env=env).check(1)
    run_tallystream("dead-letters", "drop", str(letters[1]["id"]), "--note", "no event", env=env).check()
    pipeline.check()
    pipeline.close()


@pytest.mark.scenario("S3")
def test_a_reader_reads_everything_and_only_reads(shop: Pipeline) -> None:
    """Every view and every read function works, for the role and for those who were given it."""
    assert {name for (name,) in shop.rows(READABLE)} == READS.keys()
    with shop.database.connect_as_admin() as admin:
        admin.execute("CREATE ROLE analyst LOGIN IN ROLE tallystream_reader")
    for role in (READER, "analyst"):
        with as_role(shop.database, role).connect(options="-c search_path=accum") as session:
            for name, arguments in READS.items():
                assert session.execute(f"SELECT * FROM {name}{arguments}".encode()).fetchall(), name  # noqa: S608
            for view in ("balances", "journal", "turnovers_day", "turnovers_month", "turnovers_year"):
                assert session.execute(f"SELECT * FROM inventory_{view}".encode()).fetchall(), view  # noqa: S608
    env = {"TALLYSTREAM_POSTGRES_DSN": as_role(shop.database, "analyst").dsn}
    assert run_tallystream("verify", env=env).check().out == "inventory: right (balance, day, month, year)\n"
    assert "inventory_movements_2026_04" in run_tallystream("partitions", env=env).check().out
    done = run_tallystream("rebuild", env=env).check(2)
    assert "permission denied for function register_rebuild_totals" in done.err


@pytest.mark.scenario("S3", "S5")
@pytest.mark.parametrize("role", [INGEST, READER, EVERYBODY])
def test_derived_tables_are_out_of_reach(shop: Pipeline, role: str) -> None:
    """Nothing that an ordinary role can set, or become, gets it there."""
    settings = [
        "SET tallystream.defer_fold = 'on'",
        "SET row_security = off",
        "SET CONSTRAINTS ALL DEFERRED",
        "SET search_path = pg_temp, accum",
    ]
    for setting in settings:
        for table in DERIVED:
            assert refusal(shop.database, role, setting, f"DELETE FROM accum.inventory_{table}") == "42501"  # noqa: S608
    for change in CHANGES:
        statement = change.format(*["accum.inventory_totals_day"] * 2)
        assert refusal(shop.database, role, statement) == "42501", statement
    for escape in (
        "SET session_replication_role = 'replica'",
        "SET ROLE tallystream_owner",
        "SET SESSION AUTHORIZATION tallystream_owner",
        "ALTER TABLE accum.inventory_totals_day DISABLE TRIGGER guard",
        "CREATE TABLE accum.mine (x int)",
        "CREATE OR REPLACE FUNCTION accum._guard_derived() RETURNS trigger LANGUAGE sql AS ''",
        "INSERT INTO accum._maintenance (register, task) VALUES ('inventory', 'rebuild totals')",
        "SELECT accum._maintain('inventory', 'rebuild totals')",
        "SELECT accum.inventory_fold(NULL)",
        "SELECT accum._ensure_partitions('inventory', '{2026-04-01}')",
        "SELECT accum._render('tables', '{}')",
    ):
        assert refusal(shop.database, role, escape) in {"42501", "42883"}, escape


def test_even_granted_derived_tables_are_changed_by_folds_alone(shop: Pipeline) -> None:
    """Somebody who was given every privilege is refused, by a statement and by a trigger of his own."""
    with shop.database.connect_as_admin() as admin:
        admin.execute("CREATE ROLE granted LOGIN")
        admin.execute("GRANT CREATE, USAGE ON SCHEMA accum TO granted")
        admin.execute("GRANT ALL ON ALL TABLES IN SCHEMA accum TO granted")
    for table in DERIVED:
        assert refusal(shop.database, "granted", f"DELETE FROM inventory_{table}") == "TS020", table  # noqa: S608
        ladder = (
            "CREATE TABLE mine (x int)",
            CLIMB.format(table),
            "CREATE TRIGGER climb AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION climb()",
        )
        assert refusal(shop.database, "granted", *ladder, "INSERT INTO mine VALUES (1)") == "TS020", table
    assert refusal(shop.database, "granted", "UPDATE inventory_movements SET quantity = 1") == "TS022"
    assert refusal(shop.database, "granted", "SET session_replication_role = 'replica'") == "42501"
    with shop.database.connect_as_admin() as admin:
        admin.execute("DROP OWNED BY granted")
        admin.execute("DROP ROLE granted")


def test_an_application_posts_with_the_functions_alone(shop: Pipeline) -> None:
    """The owner grants three functions, or INSERT and DELETE on the movements; a new partition is no obstacle."""
    with shop.database.connect_as_admin() as admin:
        admin.execute("CREATE ROLE app LOGIN")
        admin.execute("GRANT USAGE ON SCHEMA accum TO app")
        for function in ("register_post", "register_unpost", "register_repost"):
            admin.execute(f"GRANT EXECUTE ON FUNCTION accum.{function} TO app")
    posted = {"recorder": "a", "period": "2027-07-01", **line(9, "3")}
    with as_role(shop.database, "app").connect(options="-c search_path=accum") as session:
        for statement, count in (
            ("SELECT register_post('inventory', %s)", 1),
            ("SELECT register_repost('inventory', 'a', %s)", 1),
            ("SELECT register_unpost('inventory', 'a') WHERE %s IS NOT NULL", 1),
        ):
            assert session.execute(statement.encode(), [Jsonb(posted)]).fetchone() == (count,)
    assert refusal(shop.database, "app", "SELECT register_drop('inventory', true)") == "42501"
    assert refusal(shop.database, "app", "DELETE FROM inventory_movements") == "42501"
    with shop.database.connect() as owner:
        owner.execute("GRANT INSERT, DELETE, SELECT ON accum.inventory_movements TO app")
    with as_role(shop.database, "app").connect(options="-c search_path=accum") as session:
        session.execute("INSERT INTO inventory_movements (recorder, period, quantity) VALUES ('b', %s, 1)", [PERIOD])
        session.execute("DELETE FROM inventory_movements WHERE recorder = 'b'")
    assert shop.balances() == {(1, 1, "A"): 5}
    shop.check()
    with shop.database.connect() as owner:
        owner.execute("REVOKE ALL ON accum.inventory_movements FROM app")
        owner.execute("DROP TABLE accum.inventory_movements_2027_07")


def test_grants_survive_what_makes_objects_anew(shop: Pipeline) -> None:
    """register_alter() leaves everybody what he was granted, on columns too, and gives the roles what is new."""
    database = shop.database
    with database.connect_as_admin() as admin, database.connect(options="-c search_path=accum") as owner:
        admin.execute("CREATE ROLE bi LOGIN")
        admin.execute("CREATE ROLE clerk LOGIN")
        owner.execute("SELECT register_create('stock', %s, %s)", [Jsonb(DIMENSIONS), Jsonb(RESOURCES)])
        for grant in (
            "GRANT SELECT ON stock_balances, stock_journal TO bi WITH GRANT OPTION",
            "GRANT SELECT (warehouse, quantity), REFERENCES (lot) ON stock_turnovers_month TO clerk",
            "GRANT SELECT ON stock_turnovers_year TO PUBLIC",
            "GRANT EXECUTE ON FUNCTION stock_balance_at, stock_turnover_between, stock_balance TO clerk",
        ):
            owner.execute(grant.encode())
        before = privileges_of(owner)
        assert {"bi", "clerk", READER} <= {row[1] for row in before}
        owner.execute("""SELECT register_alter('stock', '{"colour": "text"}', '{"pieces": "int"}')""")
        assert privileges_of(owner) == before
        owner.execute("SELECT _renew_registers()")
        assert privileges_of(owner) == before
        assert "stock_balance_by" in {row[0] for row in before if row[1] == READER}
        owner.execute("SELECT register_drop('stock')")


def privileges_of(session: psycopg.Connection) -> list[tuple[Any, ...]]:
    """Everything granted on the views, columns and functions of `stock`."""
    return session.execute(
        """
        SELECT o.name, coalesce(r.rolname, 'PUBLIC'), a.privilege_type, a.is_grantable
        FROM (
            SELECT relname::text, relacl FROM pg_class UNION ALL SELECT proname, proacl FROM pg_proc
            UNION ALL SELECT format('%s.%s', attrelid::regclass, attname), attacl FROM pg_attribute
        ) AS o (name, acl)
        CROSS JOIN LATERAL aclexplode(o.acl) AS a LEFT JOIN pg_roles AS r ON r.oid = a.grantee
        WHERE o.name LIKE 'stock%' AND r.rolname IS DISTINCT FROM current_user ORDER BY 1, 2, 3
        """
    ).fetchall()


def test_roles_made_later_are_given_their_rights(server: Server) -> None:
    """Migrating again is enough, and then there is nothing left to do."""
    assert refusal(server.early, READER, "SELECT * FROM accum.register_list()") == "42501"
    assert migrate(server.early).check().out == "applied grants to new roles\n"
    assert refusal(server.early, READER, "SELECT * FROM accum.register_list()") is None
    assert refusal(server.early, INGEST, "SELECT * FROM accum._positions") is None
    assert migrate(server.early).check().out == "schema accum is up to date\n"


def test_everything_belongs_to_one_role(server: Server) -> None:
    """Members of the owner migrate and declare for it, and so does the administrator; nobody else can."""
    database = server.database("members", "postgres")
    server.run("CREATE ROLE deploy LOGIN IN ROLE tallystream_owner; CREATE ROLE stranger LOGIN")
    server.run("GRANT CREATE ON DATABASE members TO deploy, stranger")
    migrate(as_role(database, "deploy")).check()
    done = migrate(as_role(database, "stranger")).check(2)
    assert "belongs to the role tallystream_owner" in done.err
    migrate(database).check()
    with as_role(database, "deploy").connect(options="-c search_path=accum") as session:
        session.execute("SELECT register_create('stock', %s, %s)", [Jsonb(DIMENSIONS), Jsonb(RESOURCES)])
        session.execute("SELECT register_create_partitions('stock')")
        assert session.execute(OWNERS).fetchall() == [(OWNER,)]
