"""Declarations: what a TOML file declares, and how its mistakes are reported."""

from datetime import date
from pathlib import Path

import pytest

from ingest import resources
from ingest.domain.declarations import read_declarations
from ingest.domain.registers import Dimension, Kind, Register, Resource
from ingest.errors import DeclarationError

COLUMNS = """
[register.{name}.dimensions]
product = "int"
[register.{name}.resources]
quantity = "numeric(18,3)"
"""


def declaration(name: str = "stock", settings: str = "", columns: str = COLUMNS) -> str:
    """A declaration with these settings."""
    return f'[register.{name}]\nkind = "balance"\n{settings}\n{columns.format(name=name)}'


def complaint(*texts: str) -> str:
    """The message about files named 1.toml, 2.toml and so on."""
    sources = [(f"{number}.toml", text) for number, text in enumerate(texts, 1)]
    with pytest.raises(DeclarationError) as error:
        read_declarations(sources)
    return str(error.value)


def test_sample_declarations() -> None:
    """The samples that come with the program are valid, and are what the documentation says."""
    found = resources.files_in(resources.schema() / "registers", ".toml")
    registers = {each.name: each for each in read_declarations((file.name, file.read_text("utf-8")) for file in found)}
    assert registers["inventory"] == Register(
        name="inventory",
        kind=Kind.BALANCE,
        dimensions=(Dimension("warehouse", "int"), Dimension("product", "int"), Dimension("lot", "text")),
        resources=(Resource("quantity", "numeric(18,3)"), Resource("amount", "numeric(18,2)")),
    )
    assert registers["sales"] == Register(
        name="sales",
        kind=Kind.BALANCE,
        dimensions=(Dimension("stock_code", "text"), Dimension("country", "text"), Dimension("customer", "int")),
        resources=(Resource("quantity", "int"), Resource("amount", "numeric(18,3)")),
        time_zone="Europe/London",
    )


def test_every_declaration_of_the_repository() -> None:
    """Whatever lies below schema/registers can be applied."""
    folder = Path(str(resources.schema())) / "registers"
    for file in folder.rglob("*.toml"):
        assert read_declarations([(file.name, file.read_text("utf-8"))])


def test_all_settings() -> None:
    """Every setting of a register can be declared; types get their canonical names; column order is kept."""
    text = """
        [register.log]
        kind = "turnover"
        totals_period = "month"
        partition_by = "quarter"
        high_write = true
        high_write_auto = true
        recorder_type = "uuid"
        time_zone = "Asia/Tokyo"
        tombstone_unposts = true
        period_min = 2020-01-01
        period_max = "2030-12-31"
        subtotals = ["ape", "zebra"]
        [register.log.dimensions]
        zebra = "INTEGER"
        ape = "timestamp with time zone"
        [register.log.resources]
        z = "Numeric( 10, 2 )"
        a = "double  precision"
    """
    assert read_declarations([("log.toml", text)]) == (
        Register(
            name="log",
            kind=Kind.TURNOVER,
            dimensions=(Dimension("zebra", "int"), Dimension("ape", "timestamptz")),
            resources=(Resource("z", "numeric(10,2)"), Resource("a", "double precision")),
            totals_period="month",
            partition_by="quarter",
            high_write=True,
            high_write_auto=True,
            recorder_type="uuid",
            time_zone="Asia/Tokyo",
            tombstone_unposts=True,
            period_min=date(2020, 1, 1),
            period_max=date(2030, 12, 31),
            subtotals=("ape", "zebra"),
        ),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kind =", "1.toml: not valid TOML: Invalid value (at end of document)"),
        ("", "1.toml: register: the file declares no register; it begins with a table like [register.inventory]"),
        (
            "[register]",
            "1.toml: register: the file declares no register; it begins with a table like [register.inventory]",
        ),
        ("register = 3", "1.toml: register: 3 is wrong: it has to be a table"),
        ("[register]\na = 3", "1.toml: [register.a]: 3 is wrong: it has to be a table"),
        (declaration() + "[registers.x]", "1.toml: registers: is not known here; known are register"),
        (declaration(settings="zone = 'UTC'"), "1.toml: [register.stock] zone: is not known here; known are kind, dim"),
        (
            declaration(settings="high_write = 'yes'"),
            "1.toml: [register.stock] high_write: 'yes' is wrong: input should",
        ),
        (declaration(settings="period_min = 'soon'"), "1.toml: [register.stock] period_min: 'soon' is wrong: input"),
        (
            declaration(settings="time_zone = 'Moon'"),
            "1.toml: [register.stock] time_zone: 'Moon' is no known time zone",
        ),
        (declaration("Stock"), "1.toml: [register.Stock]: a register's name matches"),
        (declaration().replace("int", "json"), "1.toml: [register.stock] dimensions.product: 'json' is not one of"),
        (declaration().replace('"int"', "4"), "1.toml: [register.stock] dimensions.product: 4 is wrong: input should"),
        (
            declaration().replace("balance", "ledger"),
            "1.toml: [register.stock] kind: 'ledger' is wrong: input should be",
        ),
        (
            "[register.stock]",
            "1.toml: [register.stock] kind: is missing\n1.toml: [register.stock] dimensions: is missing",
        ),
    ],
)
def test_mistake(text: str, expected: str) -> None:
    """A message names the file, the table and the key."""
    assert complaint(text).startswith(expected)


def test_all_mistakes_of_a_file() -> None:
    """Two registers with one mistake each are two lines."""
    text = declaration("a", "time_zone = 'X'") + declaration("b", "recorder_type = 'X'")
    lines = complaint(text).splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["[register.a] time_zone", "[register.b] recorder_type"]


def test_register_of_two_files() -> None:
    """Two files do not contradict one another in silence."""
    message = complaint(declaration(), declaration("other"), declaration())
    assert message == "3.toml: [register.stock]: declared in 1.toml already; keep one"
