"""The poison corpus: bytes that broke other consumers, each with the reason for which it is refused.

The names begin with the row of the list of faults: X1 to X8, and X13.
"""

import json

from tests.support.events import EVENT

GOOD = json.dumps(EVENT).encode()


def with_quantity(written: str) -> bytes:
    """A good event in which the quantity is written so, quotes included."""
    return GOOD.replace(b'"quantity": "100"', b'"quantity": ' + written.encode())


def with_lot(written: bytes) -> bytes:
    """A good event in which the lot is written so, quotes included."""
    return GOOD.replace(b'"lot": "A"', b'"lot": ' + written)


POISON: list[tuple[str, bytes | None, str]] = [
    ("X1 not UTF-8", b"\xff\xfe{}", "not_utf8"),
    ("X1 Latin-1", with_lot(b'"caf\xe9"'), "not_utf8"),
    ("X1 UTF-16", GOOD.decode().encode("utf-16-le"), "not_json"),
    ("X1 empty value", b"", "empty_value"),
    ("X1 null value", None, "empty_value"),
    ("X1 byte order mark", b"\xef\xbb\xbf" + GOOD, "not_json"),
    ("X1 blank", b"  \n", "not_json"),
    ("X1 Avro with a schema id", b"\0\0\0\0\x01\x06abc", "unknown_schema"),
    ("X1 a zero byte", b"\0", "unknown_schema"),
    ("X1 text", b"hello", "not_json"),
    ("X1 two events in one record", GOOD + b"\n" + GOOD, "not_json"),
    ("X1 cut off", GOOD[:-2], "not_json"),
    ("X2 NUL in a dimension", with_lot(rb'"a\u0000b"'), "invalid_text movements[0].lot"),
    ("X2 raw NUL in a dimension", with_lot(b'"a\0b"'), "not_json"),
    ("X2 NUL in the recorder", GOOD.replace(b'"receipt:1"', rb'"receipt\u0000"'), "invalid_text recorder"),
    ("X2 NUL in the id", GOOD.replace(b'"e-1"', rb'"\u0000"'), "invalid_text id"),
    ("X2 NUL in the register", GOOD.replace(b'"inventory"', rb'"\u0000"'), "unknown_register register"),
    ("X2 NUL in a key", GOOD.replace(b'"lot"', rb'"lot\u0000"'), 'unknown_column movements[0]["lot\\u0000"]'),
    ("X2 NUL in a number", with_quantity(r'"1\u0000"'), "not_a_number movements[0].quantity"),
    ("X2 NUL in a time", GOOD.replace(b"00Z", rb"00Z\u0000"), "invalid_time period"),
    ("X3 high surrogate in a dimension", with_lot(rb'"\ud800"'), "invalid_text movements[0].lot"),
    ("X3 low surrogate in a dimension", with_lot(rb'"a\udc00"'), "invalid_text movements[0].lot"),
    ("X3 surrogate as bytes", with_lot(b'"\xed\xa0\x80"'), "not_utf8"),
    ("X3 surrogate in the recorder", GOOD.replace(b'"receipt:1"', rb'"\ud800"'), "invalid_text recorder"),
    ("X3 surrogate in the id", GOOD.replace(b'"e-1"', rb'"\udfff"'), "invalid_text id"),
    ("X3 surrogate in the register", GOOD.replace(b'"inventory"', rb'"\ud800"'), "unknown_register register"),
    ("X3 surrogate in the type", GOOD.replace(b'"movement"', rb'"\ud800"'), "unknown_type type"),
    ("X3 surrogate in the period", GOOD.replace(b"00Z", rb"00Z\ud800"), "invalid_time period"),
    ("X3 surrogate in a key", GOOD.replace(b'"lot"', rb'"\ud800"'), 'unknown_column movements[0]["\\ud800"]'),
    ("X4 1e999999", with_quantity("1e999999"), "out_of_range movements[0].quantity"),
    ("X4 1e131072", with_quantity("1e131072"), "out_of_range movements[0].quantity"),
    ("X4 1e131071", with_quantity("1e131071"), "out_of_range movements[0].quantity"),
    ("X4 1e-16384", with_quantity("1e-16384"), "inexact movements[0].quantity"),
    ("X4 16,384 decimals", with_quantity("0." + "1" * 16_384), "too_many_digits movements[0].quantity"),
    ("X4 100,000 digits", with_quantity("1" * 100_000), "too_many_digits movements[0].quantity"),
    ("X4 100,000 digits in a string", with_quantity(f'"{"1" * 100_000}"'), "too_many_digits movements[0].quantity"),
    ("X4 100,000 digits of exponent", with_quantity("1e" + "9" * 100_000), "too_many_digits movements[0].quantity"),
    ("X4 40 digits", with_quantity("1234567890" * 4), "too_many_digits movements[0].quantity"),
    ("X4 5,000 digits as a key", GOOD.replace(b": 42", b": " + b"4" * 5000), "out_of_range movements[0].product"),
    ("X5 NaN", with_quantity("NaN"), "not_finite movements[0].quantity"),
    ("X5 NaN in a string", with_quantity('"NaN"'), "not_finite movements[0].quantity"),
    ("X5 Infinity", with_quantity("Infinity"), "not_finite movements[0].quantity"),
    ("X5 -Infinity", with_quantity("-Infinity"), "not_finite movements[0].quantity"),
    ("X5 inf in a string", with_quantity('"-inf"'), "not_finite movements[0].quantity"),
    ("X6 0.1 + 0.2", with_quantity("0.30000000000000004"), "inexact movements[0].quantity"),
    ("X6 more decimals than declared", with_quantity("1.0005"), "inexact movements[0].quantity"),
    ("X7 100,000 brackets", b"[" * 100_000, "too_deep"),
    ("X7 100,000 brackets, closed", b"[" * 100_000 + b"]" * 100_000, "too_deep"),
    ("X7 100,000 objects", b'{"a":' * 100_000, "too_deep"),
    ("X7 33 levels in a column", with_lot(b"[" * 33 + b"]" * 33), "too_deep"),
    ("X7 2 levels in a column", with_lot(b"[[]]"), "wrong_type movements[0].lot"),
    ("X7 duplicate key of the event", GOOD.replace(b'"id"', b'"id": "e-2", "id"'), "duplicate_key id"),
    (
        "X7 duplicate key of a movement",
        GOOD.replace(b'"lot"', b'"lot": "A", "lot"'),
        "duplicate_key movements[0].lot",
    ),
    (
        "X7 duplicate key, once escaped",
        GOOD.replace(b'"lot"', rb'"\u006cot": "A", "lot"'),
        "duplicate_key movements[0].lot",
    ),
    ("X7 duplicate key inside a column", with_lot(b'{"x": 1, "x": 1}'), "duplicate_key movements[0].lot.x"),
    ("X8 unknown register", GOOD.replace(b"inventory", b"warehouse"), "unknown_register register"),
    ("X8 unknown dimension", GOOD.replace(b'"lot"', b'"lot": "A", "shelf"'), "unknown_column movements[0].shelf"),
    ("X8 misspelt resource", GOOD.replace(b"quantity", b"quantty"), "unknown_column movements[0].quantty"),
    ("X8 missing resource", GOOD.replace(b'"quantity": "100", ', b""), "missing_resource movements[0].quantity"),
    ("X8 null resource", with_quantity("null"), "missing_resource movements[0].quantity"),
    ("X13 new optional field", GOOD.replace(b"{", b'{"priority": 1, ', 1), "unknown_key priority"),
    (
        "X13 version of another envelope",
        GOOD.replace(b"{", b'{"specversion": "2", "source": "x", ', 1),
        "invalid_cloudevent specversion",
    ),
    ("X13 removed field", GOOD.replace(b'"id": "e-1", ', b""), "missing_key id"),
    ("X13 changed type", GOOD.replace(b'"receipt:1"', b'{"number": 1}'), "wrong_type recorder"),
    ("X13 movement instead of movements", GOOD.replace(b"movements", b"lines"), "unknown_key lines"),
]


MEGABYTE = 1_000_000
MANY = 50_000

LARGE: list[tuple[str, bytes, str]] = [
    ("a string of 11 MB", with_lot(b'"' + b"x" * 11 * MEGABYTE + b'"'), "too_large"),
    ("a string of 9 MB", with_lot(b'"' + b"x" * 9 * MEGABYTE + b'"'), "text_too_long movements[0].lot"),
    ("a number of 9 MB", with_quantity("1" * 9 * MEGABYTE), "too_many_digits movements[0].quantity"),
    ("a recorder of 9 MB", GOOD.replace(b"receipt:1", b"r" * 9 * MEGABYTE), "text_too_long recorder"),
    (
        "an event of many keys",
        b"{" + b",".join(b'"%d":1' % index for index in range(MANY)) + b"}",
        "unknown_key 0",
    ),
    (
        "a movement of many keys",
        with_lot(b"1," + b",".join(b'"%d":1' % index for index in range(MANY))),
        "wrong_type movements[0].lot",
    ),
    (
        "many duplicate keys",
        b"{" + b",".join([b'"id":1'] * MANY) + b"}",
        "duplicate_key id",
    ),
    ("many empty arrays", with_lot(b"[" + b",".join([b"[]"] * MANY) + b"]"), "wrong_type movements[0].lot"),
    ("many small numbers", with_lot(b"[" + b",".join([b"1.5"] * MANY) + b"]"), "wrong_type movements[0].lot"),
]
