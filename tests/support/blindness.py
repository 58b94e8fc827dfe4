"""Makes a session blind for a partition, as PostgreSQL does to one that looks partitions up while another is attached.

The partition leaves the catalog and comes back without a word to other sessions; those that looked meanwhile go on
without it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.postgres import SCHEMA, Database


@contextmanager
def out_of_sight(database: Database, parent: str, partition: str) -> Iterator[None]:
    """Sessions that look the partitions of a table up in here do not see this one, here and afterwards."""
    with database.connect_as_admin() as admin:
        admin.execute("SET allow_system_table_mods = on")
        admin.execute(f"SET search_path TO {SCHEMA}")
        admin.execute("DELETE FROM pg_inherits WHERE inhrelid = %s::regclass", [partition])
        # Makes every session look anew.
        admin.execute(f"ALTER TABLE ONLY {parent} ALTER COLUMN recorder SET STATISTICS -1")
        yield
        admin.execute("INSERT INTO pg_inherits VALUES (%s::regclass, %s::regclass, 1, false)", [partition, parent])
