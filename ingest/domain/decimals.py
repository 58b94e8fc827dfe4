"""Reads numbers exactly: any spelling of JSON in, the one canonical spelling out.

Canonical is plain notation without exponent, superfluous zeros and signs, as `12.5`, `-0.03` or `0`. Nothing is ever
rounded, and no exponent is expanded before the number is known to fit: `1e999999999` costs as much as `1`.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Final, NoReturn, TypeAlias

from ingest.domain.messages import Limits, Reason
from ingest.domain.registers import numeric_bounds
from ingest.domain.strict_json import Number, UnreadableError, described, shown

Reader: TypeAlias = Callable[[object], str]

INTEGER_RANGES: Final = {
    "smallint": (-(2**15), 2**15 - 1),
    "int": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
}

_GRAMMAR: Final = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_NOT_FINITE: Final = frozenset({"nan", "inf", "infinity"})

# Zeros on either side count for nothing, and yet somebody has to read them.
_MAX_TEXT_LENGTH: Final = 1000


@dataclass(frozen=True, slots=True)
class _Shape:
    """How many digits a column takes, before the point and after it, and altogether."""

    type: str
    max_whole: int
    max_decimals: int
    max_digits: int


def integer_reader(column_type: str) -> Reader:
    """Of an integer dimension or recorder: JSON integers within the type's range."""
    low, high = INTEGER_RANGES[column_type]

    def read(value: object) -> str:
        return str(value) if type(value) is int and low <= value <= high else _refuse_whole(value, low, high)

    return read


def number_reader(column_type: str, limits: Limits) -> Reader:
    """Of a resource, or of a dimension of type numeric: JSON numbers, or strings that look like them."""
    if column_type in INTEGER_RANGES:
        return _whole_number_reader(column_type, limits)
    if column_type in _FLOAT_READERS:
        return _FLOAT_READERS[column_type]
    return _decimal_reader(_shape_of(column_type, limits))


@dataclass(frozen=True, slots=True)
class PlainNumber:
    """The pattern of numbers in canonical spelling that a column surely takes, and how many decimals it keeps."""

    canonical: str
    max_decimals: int


def plain_number(column_type: str, limits: Limits) -> PlainNumber:
    """Of a resource, or of a dimension of type numeric; not of floating point."""
    if column_type in INTEGER_RANGES:
        surely = len(str(INTEGER_RANGES[column_type][1])) - 1
        shape = _Shape(column_type, surely, 0, limits.max_digits)
    else:
        shape = _shape_of(column_type, limits)
    most = shape.max_decimals
    decimals = rf"(?:\.[0-9]{{1,{most}}}+(?<!0))?" if most else ""
    return PlainNumber(rf"(?:-(?!0(?!\.)))?{_plain_whole(shape)}{decimals}", most)


def _plain_whole(shape: _Shape) -> str:
    """Pattern of so many digits before the point that all the decimals may follow."""
    digits = _plain_whole_digits(shape)
    return f"(?:0|[1-9][0-9]{{0,{digits - 1}}})" if digits else "0"


def _plain_whole_digits(shape: _Shape) -> int:
    return max(0, min(shape.max_whole, shape.max_digits - shape.max_decimals))


def _shape_of(column_type: str, limits: Limits) -> _Shape:
    bounds = numeric_bounds(column_type)
    if bounds is None:
        return _Shape(column_type, limits.max_digits, limits.max_scale, limits.max_digits)
    precision, scale = bounds
    return _Shape(column_type, precision - scale, min(scale, limits.max_scale), limits.max_digits)


def _decimal_reader(shape: _Shape) -> Reader:
    # Nearly all numbers look like this and need no arithmetic; all others take the careful way, with the same result.
    decimals = rf"(?:\.[0-9]{{1,{shape.max_decimals}}})?" if shape.max_decimals else ""
    is_plain = re.compile(f"-?{_plain_whole(shape)}{decimals}").fullmatch
    bound = 10 ** _plain_whole_digits(shape)

    def read(value: object) -> str:
        if type(value) is int and -bound < value < bound:
            return str(value)
        text = value if type(value) is str else _text_of(value)
        if not is_plain(text):
            return _carefully(text, shape)
        if "." in text:
            text = text.rstrip("0").rstrip(".")
        return "0" if text == "-0" else text

    return read


def _whole_number_reader(column_type: str, limits: Limits) -> Reader:
    low, high = INTEGER_RANGES[column_type]
    shape = _Shape(column_type, len(str(high)), 0, limits.max_digits)

    def read(value: object) -> str:
        # The shape has let through at most 19 digits, which is what makes int() cheap.
        number = value if type(value) is int else int(_carefully(_text_of(value), shape))
        return str(number) if low <= number <= high else _refuse_whole(number, low, high)

    return read


def _refuse_whole(value: object, low: int, high: int) -> NoReturn:
    if type(value) is int or (type(value) is Number and value.text.lstrip("-").isdigit()):
        raise UnreadableError(Reason.OUT_OF_RANGE, f"the integer is not between {low} and {high}")
    raise UnreadableError(Reason.WRONG_TYPE, f"{described(value)} where an integer is expected")


def _carefully(text: str, shape: _Shape) -> str:
    """Digits and exponent apart: how long the number is, is known before it is written out."""
    sign, whole, fraction, exponent_text = _parts(text)
    written = whole + fraction
    significant = written.lstrip("0")
    if not significant:
        return "0"
    digits = significant.rstrip("0")
    exponent = int(exponent_text) - len(fraction) + len(significant) - len(digits)
    if len(digits) > shape.max_digits:
        raise UnreadableError(Reason.TOO_MANY_DIGITS, f"{len(digits)} digits, and {shape.max_digits} are allowed")
    if -exponent > shape.max_decimals:
        kept = f"{shape.type} keeps {shape.max_decimals} decimals"
        raise UnreadableError(Reason.INEXACT, f"{kept}, and {shown(text)} has more")
    if len(digits) + exponent > shape.max_whole:
        kept = f"{shape.type} takes {shape.max_whole} digits before the point"
        raise UnreadableError(Reason.OUT_OF_RANGE, f"{kept}, and {shown(text)} has more")
    return sign + _written_out(digits, exponent)


def _written_out(digits: str, exponent: int) -> str:
    if exponent >= 0:
        return digits + "0" * exponent
    padded = digits.rjust(1 - exponent, "0")
    return f"{padded[:exponent]}.{padded[exponent:]}"


def _parts(text: str) -> tuple[str, str, str, str]:
    """Sign, whole digits, decimals and exponent of a number that is short enough to look at."""
    number = _GRAMMAR.fullmatch(text)
    if number is None:
        if text.lstrip("+-").lower() in _NOT_FINITE:
            raise UnreadableError(Reason.NOT_FINITE, f"{text[:10]} is not a number that can be added up")
        raise UnreadableError(Reason.NOT_A_NUMBER, f"{shown(text)} is not a decimal number")
    if len(text) > _MAX_TEXT_LENGTH:
        raise UnreadableError(Reason.TOO_MANY_DIGITS, f"the number is {len(text)} characters long")
    return number[1], number[2], number[3] or "", number[4] or "0"


def _text_of(value: object) -> str:
    if type(value) is str:
        return value
    if type(value) is Number:
        return value.text
    if type(value) is int:
        return str(value)
    raise UnreadableError(Reason.WRONG_TYPE, f"{described(value)} where a number is expected")


def _float_reader(column_type: str, narrowed: Callable[[float], float], spelled: Callable[[float], str]) -> Reader:
    """Of a binary floating point resource: the nearest number of its type, and never zero or infinity instead."""

    def read(value: object) -> str:
        text = _text_of(value)
        _, whole, fraction, _ = _parts(text)
        if not (whole + fraction).strip("0"):
            return "0"
        number = narrowed(float(text))
        if number == 0 or not isfinite(number):
            raise UnreadableError(Reason.OUT_OF_RANGE, f"{shown(text)} is too large or too small for {column_type}")
        return spelled(number)

    return read


def _single(number: float) -> float:
    try:
        (single,) = struct.unpack("f", struct.pack("f", number))
    except OverflowError:
        return float("inf")
    return float(single)


def _spelled_double(number: float) -> str:
    return repr(number).removesuffix(".0")


def _spelled_single(number: float) -> str:
    """The shortest spelling that only this number of 24 bits has; nine digits always suffice."""
    spellings = (float(f"{number:.{digits}g}") for digits in range(6, 10))
    return _spelled_double(next(spelling for spelling in spellings if _single(spelling) == number))


_FLOAT_READERS: Final = {
    "double precision": _float_reader("double precision", float, _spelled_double),
    "real": _float_reader("real", _single, _spelled_single),
}
