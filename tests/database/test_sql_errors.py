"""What the functions refuse about registers as a whole: with a code of their own, the names, and what to do."""

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support.registers import DIMENSIONS, RESOURCES, Shop, element


def refused(shop: Shop, statement: str, *parameters: object) -> tuple[str | None, str, str]:
    """Code, message and hint."""
    with shop.connect() as session, pytest.raises(psycopg.Error) as error:
        session.execute(statement, [Jsonb(p) if isinstance(p, list | dict) else p for p in parameters])
    return error.value.sqlstate, error.value.diag.message_primary or "", error.value.diag.message_hint or ""


def test_a_register_is_not_replaced_and_not_emptied_by_accident(shop: Shop) -> None:
    """Creating it again and dropping it full are refused; both can be had on purpose."""
    code, message, hint = refused(shop, "SELECT register_create('stock', %s, %s)", DIMENSIONS, RESOURCES)
    assert (code, message) == ("TS004", "register stock exists already")
    assert "register_drop()" in hint
    shop.post(element("r", "2026-01-05", 1, "x", quantity=1))
    code, message, hint = refused(shop, "SELECT register_drop('stock')")
    assert (code, message) == ("TS005", "register stock has movements")
    assert "register_drop(name, true)" in hint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("period_min => '2026-01-02', period_max => '2026-01-01'", "periods from 2026-01-02 to 2026-01-01"),
        ("period_min => NULL", "periods from null to 2099-12-31"),
        ("period_max => 'infinity'", "periods from 2000-01-01 to infinity"),
        ("period_min => '0001-01-01 BC'", "periods from 0001-01-01 BC to 2099-12-31"),
        ("kind => 'sum'", "kind sum is not known"),
        ("kind => NULL", "kind null is not known"),
        ("time_zone => 'Mars'", "time zone Mars is not known"),
        ("time_zone => NULL", "time zone null is not known"),
        ("dimensions => NULL", "dimensions must name between 1 and 32 columns"),
        ("resources => '[]'", "resources must name between 1 and 32 columns"),
        ("""resources => '{"lot": "int"}'""", "column lot is declared twice"),
    ],
)
def test_declarations_are_checked(shop: Shop, options: str, message: str) -> None:
    """Every parameter, null too, before anything is made."""
    given = "".join(f", {name} => '{json}'" for name, json in COLUMNS.items() if name not in options)
    code, text, hint = refused(shop, f"SELECT register_create(name => 'other', {options}{given})")
    assert code == "TS003"
    assert text.startswith("register other: ")
    assert message in text
    assert hint
    assert shop.rows("SELECT name FROM register_list()") == [("stock",)]


COLUMNS = {"dimensions": '{"warehouse": "int", "lot": "text"}', "resources": '{"quantity": "int"}'}


def test_what_others_built_on_functions_is_not_dropped(shop: Shop) -> None:
    """A function with other columns is made anew; what depends on it is named, and nothing has changed."""
    shop.rows("CREATE VIEW of_mine AS SELECT quantity FROM stock_balance_at('2026-01-01')")
    code, message, hint = refused(shop, "SELECT register_alter('stock', %s)", {"colour": "text"})
    assert code == "TS007"
    assert message.startswith("register stock: some functions")
    assert hint.startswith("Drop what the detail names")
    assert shop.rows("SELECT * FROM of_mine") == []
    shop.rows("DROP VIEW of_mine")
    shop.rows("SELECT register_alter('stock', %s)", {"colour": "text"})


def test_two_cells_of_one_key_are_never_added(shop: Shop) -> None:
    """64 bits may collide one day: then nothing is written, and both are named."""
    shop.post(element("r", "2026-01-05", 1, "x", quantity=1))
    shop.rows("ALTER TABLE stock_balance_cache DISABLE TRIGGER guard")
    shop.rows("UPDATE stock_balance_cache SET lot = 'y'")
    code, message, hint = refused(
        shop, "SELECT register_post('stock', %s)", element("s", "2026-01-05", 1, "x", quantity=1)
    )
    assert code == "TS021"
    assert message.startswith("two different cells of stock_balance_cache share the key ")
    assert hint.startswith("Nothing was written.")
    assert shop.ask("SELECT count(*) FROM stock_movements") == 1
