"""PgBouncer in transaction mode before the tests' server: what many users put between.

`pooled` makes the DSN of a database through it. Without the program (Debian: apt install pgbouncer) the tests that need
it are skipped with that reason; under CI they fail.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support.lacking import skip_for
from tests.support.local_postgres import UNPRIVILEGED_USER
from tests.support.postgres import PASSWORD, Database
from tests.support.processes import Server, free_ports, is_root
from tests.support.waiting import wait_until

READY_TIMEOUT_S = 30

# Two server sessions for everybody: whoever comes next finds what the one before has left in it.
CONFIGURATION = """
[databases]
* = host={host} port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = 2
max_client_conn = 50
"""


@pytest.fixture
def pooled() -> Iterator[Callable[[Database], str]]:
    """The DSN of a database, through a PgBouncer of the test's own."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        skip_for("pgbouncer is not installed (Debian, Ubuntu: apt install pgbouncer)")
    servers: list[Server] = []
    with tempfile.TemporaryDirectory(prefix="ts-pgbouncer-") as folder:
        Path(folder).chmod(0o755)

        def start(database: Database) -> str:
            dsn, server = _start(program, Path(folder), database)
            servers.append(server)
            return dsn

        yield start
        for server in servers:
            server.stop()


def _start(program: str, folder: Path, database: Database) -> tuple[str, Server]:
    port = free_ports(1)[0]
    behind = conninfo_to_dict(database.admin_dsn)
    users, configuration = folder / "users", folder / "pgbouncer.ini"
    users.write_text(f'"{database.owner}" "{PASSWORD}"\n')
    configuration.write_text(
        CONFIGURATION.format(host=behind["host"], server_port=behind["port"], port=port, users=users)
    )
    server = Server([program, configuration], folder / "log", user=UNPRIVILEGED_USER if is_root() else None)
    dsn = make_conninfo(host="127.0.0.1", port=port, dbname=database.name, user=database.owner, password=PASSWORD)

    def answers() -> bool:
        assert server.running, server.last_lines()
        try:
            psycopg.connect(dsn, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    wait_until(answers, READY_TIMEOUT_S, "PgBouncer answers")
    return dsn, server
