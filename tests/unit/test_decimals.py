"""Numbers: one spelling for equal numbers, no rounding, nothing expanded before it fits."""

import tracemalloc

import pytest

from ingest.domain.decimals import integer_reader, number_reader
from ingest.domain.messages import Limits
from ingest.domain.strict_json import Number, UnreadableError

# JSON numbers and strings are written alike here: both must come to the same.
NUMBERS = """
    numeric(18,3)     0                       0
    numeric(18,3)     -0                      0
    numeric(18,3)     -0.000                  0
    numeric(18,3)     0e999999999999999999999 0
    numeric(18,3)     100                     100
    numeric(18,3)     100.000                 100
    numeric(18,3)     100.00000000            100
    numeric(18,3)     1e2                     100
    numeric(18,3)     1E+2                    100
    numeric(18,3)     10.0e1                  100
    numeric(18,3)     1000e-1                 100
    numeric(18,3)     1e5                     100000
    numeric(18,3)     0.5                     0.5
    numeric(18,3)     -0.500                  -0.5
    numeric(18,3)     5e-1                    0.5
    numeric(18,3)     0.001                   0.001
    numeric(18,3)     1e-3                    0.001
    numeric(18,3)     -12.34e-1               -1.234
    numeric(18,3)     0.0005e1                0.005
    numeric(18,3)     999999999999999.999     999999999999999.999
    numeric(18,3)     -999999999999999.999    -999999999999999.999
    numeric(18,3)     0.30000000000000004     inexact
    numeric(18,3)     0.0001                  inexact
    numeric(18,3)     1e-4                    inexact
    numeric(18,3)     1e-16384                inexact
    numeric(18,3)     1e-999999999            inexact
    numeric(18,3)     1000000000000000        out_of_range
    numeric(18,3)     1e15                    out_of_range
    numeric(18,3)     1e131072                out_of_range
    numeric(18,3)     1e999999999             out_of_range
    numeric(18,3)     -1e999999999999999999   out_of_range
    numeric(18,3)     1234567890123456789012345678901234567890    too_many_digits
    numeric(18,3)     0.1234567890123456789012345678901234567890  too_many_digits
    numeric(3,3)      0.999                   0.999
    numeric(3,3)      -0.5                    -0.5
    numeric(3,3)      0                       0
    numeric(3,3)      1                       out_of_range
    numeric(3,3)      1.0                     out_of_range
    numeric(5,0)      99999                   99999
    numeric(5,0)      1.0                     1
    numeric(5,0)      1.5                     inexact
    numeric(5,0)      100000                  out_of_range
    numeric(38,18)    12345678901234567890.123456789012345678     12345678901234567890.123456789012345678
    numeric(38,0)     99999999999999999999999999999999999999      99999999999999999999999999999999999999
    numeric(38,0)     100000000000000000000000000000000000000     out_of_range
    numeric           99999999999999999999999999999999999999      99999999999999999999999999999999999999
    numeric           100000000000000000000000000000000000000     out_of_range
    numeric           1e37                    10000000000000000000000000000000000000
    numeric           1e38                    out_of_range
    numeric           0.000000000000000001    0.000000000000000001
    numeric           0.0000000000000000001   inexact
    numeric           1000000000000000000000.000000000000000001   too_many_digits
    int               2147483647              2147483647
    int               -2147483648             -2147483648
    int               2147483648              out_of_range
    int               1e9                     1000000000
    int               1e10                    out_of_range
    int               7.00                    7
    int               7.5                     inexact
    bigint            9223372036854775807     9223372036854775807
    bigint            -9223372036854775808    -9223372036854775808
    bigint            9223372036854775808     out_of_range
    bigint            1e999999999             out_of_range
    double precision  0.1                     0.1
    double precision  -0.0                    0
    double precision  5.0                     5
    double precision  1e2                     100
    double precision  1e300                   1e+300
    double precision  0.1000000000000000055   0.1
    double precision  1e309                   out_of_range
    double precision  1e-400                  out_of_range
    double precision  0e-400                  0
    real              0.1                     0.1
    real              16777217                16777216
    real              1e39                    out_of_range
    real              1e-60                   out_of_range
    real              3.4028235e38            3.4028235e+38
"""

NO_NUMBERS = """
    NaN              not_finite
    nan              not_finite
    Infinity         not_finite
    -Infinity        not_finite
    +inf             not_finite
    1_000            not_a_number
    0x10             not_a_number
    +1               not_a_number
    .5               not_a_number
    5.               not_a_number
    007              not_a_number
    1e               not_a_number
    1,5              not_a_number
    1.000,50         not_a_number
    ١٢               not_a_number
    --1              not_a_number
    a                not_a_number
"""


def rows(table: str) -> list[tuple[str, ...]]:
    """Cells are separated by two spaces or more."""
    return [tuple(cell.strip() for cell in line.split("  ") if cell.strip()) for line in table.strip().splitlines()]


def read(column_type: str, value: object) -> str:
    """What the column would store, or the reason why nothing."""
    try:
        return number_reader(column_type, Limits())(value)
    except UnreadableError as error:
        return error.reason


def json_number(text: str) -> object:
    """As the parser gives it: short integers are ints, all other numbers keep their text."""
    return int(text) if text.lstrip("-").isdigit() and len(text) <= 40 else Number(text)


@pytest.mark.parametrize(
    "row", [line.split() for line in NUMBERS.replace("double precision", "double").strip().splitlines()]
)
def test_number(row: list[str]) -> None:
    """Numbers and strings of the same spelling are the same number, in the one canonical spelling."""
    column_type, written, expected = row
    column_type = column_type.replace("double", "double precision")
    assert read(column_type, json_number(written)) == expected
    assert read(column_type, written) == expected


@pytest.mark.parametrize(("written", "reason"), rows(NO_NUMBERS))
@pytest.mark.parametrize("column_type", ["numeric(18,3)", "numeric", "int", "double precision", "real"])
def test_what_is_no_number(column_type: str, written: str, reason: str) -> None:
    """What PostgreSQL or Python would take for a number, and JSON would not, is refused."""
    assert read(column_type, written) == reason


@pytest.mark.parametrize("written", ["", " 1", "1 ", "1\n", "\n", "1\0", "\ud800", "1" + "\u200b"])
@pytest.mark.parametrize("column_type", ["numeric(18,3)", "int", "double precision"])
def test_blanks_are_no_part_of_a_number(column_type: str, written: str) -> None:
    """Nothing is trimmed."""
    assert read(column_type, written) == "not_a_number"


@pytest.mark.parametrize("value", [True, False, None, [], {}, ["1"]])
@pytest.mark.parametrize("column_type", ["numeric(18,3)", "int", "double precision"])
def test_other_json_types(column_type: str, value: object) -> None:
    """True is not 1."""
    assert read(column_type, value) == "wrong_type"


@pytest.mark.parametrize("column_type", ["numeric(18,3)", "numeric", "bigint", "double precision", "real"])
@pytest.mark.parametrize(
    "written",
    [
        "1" * 100_000,
        "0." + "1" * 100_000,
        "1e" + "9" * 100_000,
        "1" + "0" * 100_000,
        "-" + "1" * 5000,
        "0." + "0" * 5000,
    ],
)
def test_endless_numbers(column_type: str, written: str) -> None:
    """However long a number is, it is refused by its length: no arithmetic, no conversion."""
    assert read(column_type, Number(written)) == "too_many_digits"


@pytest.mark.parametrize("written", ["1e999999999", "1e-999999999", "-9e" + "9" * 900, "123.456e99999999"])
def test_exponents_are_not_expanded(written: str) -> None:
    """A few bytes of input never become gigabytes of digits."""
    tracemalloc.start()
    try:
        assert read("numeric", Number(written)) in {"out_of_range", "inexact"}
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("limits", "written", "expected"),
    [
        (Limits(max_digits=5), "12345", "12345"),
        (Limits(max_digits=5), "123456", "too_many_digits"),
        (Limits(max_digits=5), "1234.56", "too_many_digits"),
        (Limits(max_digits=5), "123.45", "123.45"),
        (Limits(max_scale=1), "1.5", "1.5"),
        (Limits(max_scale=1), "1.25", "inexact"),
        (Limits(max_scale=0), "1.0", "1"),
        (Limits(max_digits=1, max_scale=18), "7", "7"),
        (Limits(max_digits=1, max_scale=18), "0.5", "0.5"),
    ],
)
def test_limits_below_the_declared_type(limits: Limits, written: str, expected: str) -> None:
    """A limit that is stricter than the type holds, for all ways to read a number."""
    for value in (written, json_number(written)):
        try:
            result = number_reader("numeric(18,3)", limits)(value)
        except UnreadableError as error:
            result = error.reason
        assert result == expected


@pytest.mark.parametrize(
    ("column_type", "value", "expected"),
    [
        ("smallint", 32767, "32767"),
        ("smallint", 32768, "out_of_range"),
        ("int", -2147483648, "-2147483648"),
        ("bigint", 2**63, "out_of_range"),
        ("bigint", Number("9" * 50), "out_of_range"),
        ("int", Number("1.0"), "wrong_type"),
        ("int", Number("1e3"), "wrong_type"),
        ("int", Number("NaN"), "wrong_type"),
        ("int", "1", "wrong_type"),
        ("int", True, "wrong_type"),
        ("int", [], "wrong_type"),
    ],
)
def test_integer_dimensions(column_type: str, value: object, expected: str) -> None:
    """Keys are JSON integers and nothing that looks like one."""
    try:
        result = integer_reader(column_type)(value)
    except UnreadableError as error:
        result = error.reason
    assert result == expected
