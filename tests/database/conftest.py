"""What the database tests share: registers to post into, and rows as plain values."""

from collections.abc import Iterator

import pytest

from tests.support.postgres import Database, Databases
from tests.support.registers import Shop


@pytest.fixture(scope="module")
def shop_database(databases: Databases, migrated_template: Database) -> Iterator[Database]:
    """One migrated database for the tests of a module, which leave no register in it."""
    fresh = databases.create(migrated_template)
    yield fresh
    databases.drop(fresh)


@pytest.fixture
def shop(shop_database: Database) -> Iterator[Shop]:
    """Only the register `stock`: time zone Europe/London, day totals, month partitions."""
    made = Shop(shop_database)
    made.create("stock")
    yield made
    made.clear()
