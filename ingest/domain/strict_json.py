"""Reads bytes as one JSON object, exactly: what a lenient parser would guess or lose is refused here.

Keys that occur twice, text that is not UTF-8 and nesting without end are refused; numbers with a point or an exponent
keep their text, so that nothing is rounded and no exponent is ever expanded. Never raises anything but
`UnreadableError` for bad input, and its messages are short and printable, whatever the input was.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from ingest.domain.messages import Reason

_TYPE_NAMES: Final = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    type(None): "null",
}

# int() is quadratic, so it only gets what may still fit a column; anything longer keeps its text and fails later.
_MAX_INTEGER_LENGTH: Final = 40

# Longer excerpts help nobody who reads a table of dead letters.
_MAX_SHOWN_LENGTH: Final = 60

_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")


class UnreadableError(Exception):
    """An event cannot be read. It never leaves the decoder, which makes a `Refusal` of it."""

    def __init__(self, reason: Reason, detail: str, path: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.path = path

    def inside(self, parent: str) -> "UnreadableError":
        """The same, seen from the object or array that contains what could not be read."""
        separator = "." if self.path and not self.path.startswith("[") else ""
        return UnreadableError(self.reason, self.detail, f"{parent}{separator}{self.path}")


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number that is not a short integer, as it was written; `NaN` and `Infinity` too."""

    text: str


class _DuplicateKeyError(Exception):
    """Raised by the parser's hook, which knows the key but not where the object is."""


def read_object(value: bytes, max_depth: int) -> dict[str, object]:
    """The JSON object in `value`: dict, list, str, int, bool, None and `Number` are what it consists of."""
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise UnreadableError(Reason.NOT_UTF8, f"byte {error.start} does not belong to UTF-8") from None
    document = _parse(text, max_depth)
    if type(document) is not dict:
        raise UnreadableError(Reason.NOT_AN_OBJECT, f"the value is {described(document)}, not an object")
    return document


def check_depth(document: object, max_depth: int) -> None:
    """Refuse what is nested deeper than allowed.

    An event that can be read is never deep, so this is asked only of those that cannot: it puts the reason that
    matters first and costs the others nothing.
    """
    containers = [document]
    for _ in range(max_depth):
        inner: list[object] = []
        for container in containers:
            if isinstance(container, dict):
                inner.extend(container.values())
            elif isinstance(container, list):
                inner.extend(container)
        containers = [child for child in inner if isinstance(child, dict | list)]
    if containers:
        _refuse_depth(max_depth)


def described(value: object) -> str:
    """What kind of JSON value this is, as it is called in a sentence."""
    return _TYPE_NAMES.get(type(value), "a number")


def shown(text: str) -> str:
    """The text in double quotes, short, printable and in ASCII: for messages."""
    excerpt = json.dumps(text[:_MAX_SHOWN_LENGTH])
    return excerpt if len(text) <= _MAX_SHOWN_LENGTH else f"{excerpt}… ({len(text)} characters)"


def path_to(parent: str, key: str) -> str:
    """The path of a key inside the object at `parent`; strange keys are quoted as in `shown`."""
    if not _PLAIN_NAME.fullmatch(key):
        return f"{parent}[{shown(key)}]"
    return f"{parent}.{key}" if parent else key


def _parse(text: str, max_depth: int) -> object:
    try:
        document: object = _decoder.decode(text)
    except _DuplicateKeyError:
        raise _where_duplicate(text) from None
    except RecursionError:
        _refuse_depth(max_depth)
    except json.JSONDecodeError as error:
        hint = "; it starts with a byte order mark" if text.startswith("\ufeff") else ""
        fault = f"{error.msg.removesuffix(' at')} at character {error.pos}{hint}"
        raise UnreadableError(Reason.NOT_JSON, fault[0].lower() + fault[1:]) from None
    return document


def _refuse_depth(max_depth: int) -> NoReturn:
    raise UnreadableError(Reason.TOO_DEEP, f"arrays and objects are nested deeper than {max_depth}")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _DuplicateKeyError
    return members


def _integer(text: str) -> int | Number:
    return int(text) if len(text) <= _MAX_INTEGER_LENGTH else Number(text)


_decoder: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=Number, parse_constant=Number
)


class _Pairs(list[tuple[str, object]]):
    """An object's members, duplicates included."""


_explaining_decoder: Final = json.JSONDecoder(object_pairs_hook=_Pairs, parse_int=Number, parse_float=Number)


def _where_duplicate(text: str) -> UnreadableError:
    """Read again, slowly, to tell where the first duplicate key is; the text may be broken further on."""
    try:
        document: object = _explaining_decoder.decode(text)
    except (json.JSONDecodeError, RecursionError):
        document = None
    for path, container in _containers(document):
        key = _repeated_key(container) if isinstance(container, _Pairs) else None
        if key is not None:
            return UnreadableError(Reason.DUPLICATE_KEY, f"{shown(key)} occurs twice", path_to(path, key))
    return UnreadableError(Reason.DUPLICATE_KEY, "an object has the same key twice")


def _repeated_key(pairs: _Pairs) -> str | None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    return None


def _containers(document: object) -> Iterator[tuple[str, object]]:
    """Every array and object with its path, outermost first; its own stack, because depth is the input's choice."""
    stack = [iter([("", document)])]
    while stack:
        path, value = next(stack[-1], ("", None))
        if value is None:
            stack.pop()
        else:
            yield path, value
            stack.append(_children(path, value))


def _children(path: str, container: object) -> Iterator[tuple[str, object]]:
    if isinstance(container, _Pairs):
        yield from ((path_to(path, key), value) for key, value in container if isinstance(value, list))
    elif isinstance(container, list):
        yield from ((f"{path}[{index}]", value) for index, value in enumerate(container) if isinstance(value, list))
