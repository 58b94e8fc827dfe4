"""Canonical numbers are a one-to-one map: equal numbers have equal text, and equal text means equal numbers."""

import struct
from decimal import Decimal, localcontext

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ingest.domain.decimals import number_reader
from ingest.domain.messages import Limits
from ingest.domain.strict_json import Number, UnreadableError

DIGITS = st.text("0123456789", max_size=45)


@st.composite
def numbers(draw: st.DrawFn) -> str:
    """Anything that JSON takes for a number."""
    sign = draw(st.sampled_from(["", "-"]))
    whole = draw(DIGITS).lstrip("0") or "0"
    fraction = draw(DIGITS)
    exponent = draw(st.integers(-50, 50) | st.integers(-(10**12), 10**12) | st.none())
    return (
        sign
        + whole
        + (f".{fraction}" if fraction else "")
        + (draw(st.sampled_from("eE")) + str(exponent) if exponent is not None else "")
    )


def read(column_type: str, value: object) -> str | None:
    """The canonical text, or None for a refusal."""
    try:
        return number_reader(column_type, Limits())(value)
    except UnreadableError:
        return None


@pytest.mark.scenario("W10")
@given(text=numbers(), column_type=st.sampled_from(["numeric(18,3)", "numeric(38,18)", "numeric(4,4)", "numeric(9,0)"]))
@example(text="-0", column_type="numeric(18,3)")
@example(text="100000", column_type="numeric(18,3)")
@example(text="1e5", column_type="numeric(18,3)")
@example(text="9" * 38, column_type="numeric(38,18)")
def test_exact_or_refused(text: str, column_type: str) -> None:
    """A number that is taken means what was written, and is taken exactly if its column can hold it."""
    precision, scale = map(int, column_type[8:-1].split(","))
    canonical = read(column_type, Number(text))
    with localcontext(prec=200):
        written = Decimal(text)
        fits = (
            abs(written.adjusted()) < 100
            and abs(written) < 10 ** (precision - scale)
            and written == round(written, scale)
        )
        if not written:
            fits = True
        assert (canonical is not None) == fits
        if canonical is not None:
            assert Decimal(canonical) == written
            assert "e" not in canonical.lower()
            assert canonical == "0" or not canonical.startswith(("-0.0" if written == 0 else "+", "00", "-00"))
            assert "." not in canonical or not canonical.endswith(("0", "."))
    assert read(column_type, text) == canonical


@given(first=numbers(), second=numbers())
def test_equal_numbers_and_only_those_have_equal_text(first: str, second: str) -> None:
    """What keys, digests and duplicates rest on."""
    texts = [read("numeric", Number(each)) for each in (first, second)]
    assume(None not in texts)
    assert (texts[0] == texts[1]) == (Decimal(first) == Decimal(second))


@given(number=st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**12), max_value=10**12))
def test_spellings_of_one_number(number: Decimal) -> None:
    """Plain, scientific, with more zeros: one text."""
    spellings = [
        f"{number:f}",
        f"{number:f}000",
        f"{number:E}",
        f"{number.scaleb(5):f}e-5",
        f"{number.scaleb(-5):f}E+5",
    ]
    assert len({read("numeric(18,3)", Number(each)) for each in spellings}) == 1
    assert len({read("numeric(18,3)", each) for each in spellings}) == 1


@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_come_back(number: float) -> None:
    """The text of a double is that double's and no other's."""
    canonical = read("double precision", Number(repr(number)))
    assert canonical is not None
    assert float(canonical) == number
    assert canonical == "0" or not canonical.startswith("-0e")


@given(number=st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_singles_come_back(number: float) -> None:
    """The text of a real is the shortest that is its own, and reads as the same real."""
    canonical = read("real", Number(repr(number)))
    assert canonical is not None
    assert struct.unpack("f", struct.pack("f", float(canonical)))[0] == number
    assert len(canonical) <= len(repr(number))


@given(text=st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text raises anything else."""
    for column_type in ("numeric(18,3)", "numeric", "int", "bigint", "double precision", "real"):
        read(column_type, text)
