"""Loads the fixture plugins. Each module of `tests.support` named here says what it offers."""

# A plugin comes after those that it imports: pytest rewrites the assertions of a module that it loads itself.
pytest_plugins = (
    "tests.support.seeds",
    "tests.support.program",
    "tests.support.postgres",
    "tests.support.disks",
    "tests.support.pipeline",
    "tests.support.pgbouncer",
    "tests.support.kafka",
    "tests.support.kafka_cluster",
    "tests.support.schema_registry",
    "tests.support.members",
    "tests.support.prometheus",
    "tests.support.browser",
    "tests.support.toxiproxy",
    "tests.support.stream",
    "tests.support.wall_clock",
    "tests.support.bench",
    "tests.support.retail",
    "tests.support.header",
)
