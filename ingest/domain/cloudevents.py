"""CloudEvents 1.0: the same events, with id, type and recorder as attributes beside the data or around it.

Binary mode has the attributes in record headers (`ce_id`, `ce_type`, `ce_subject`), structured mode in the JSON object
whose `data` is the rest of the event. The subject is the recorder; the type is one of our words, alone or after the
last dot of a longer name, such as `com.example.movement`. Data may repeat the attributes, and not contradict them.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from ingest.domain.messages import Reason
from ingest.domain.strict_json import UnreadableError, described, shown

VERSION: Final = "1.0"
_PREFIX: Final = "ce_"
_VERSION_HEADER: Final = "ce_specversion"
_VERSION_KEY: Final = "specversion"
_REQUIRED: Final = (_VERSION_KEY, "id", "source", "type")
_KEYS: Final = {"id": "id", "type": "type", "subject": "recorder"}

Headers = Iterable[tuple[str, bytes | None]]
Document = dict[str, object]


def is_binary(headers: Headers) -> bool:
    """Whether a record's headers carry the attributes of a CloudEvent."""
    return any(name == _VERSION_HEADER for name, _ in headers)


def is_structured(document: Mapping[str, object]) -> bool:
    """Whether an object is a CloudEvent: no event of our own has this key."""
    return _VERSION_KEY in document


def from_binary(headers: Headers, data: Document) -> Document:
    """The event of a record in binary mode, whose value is the data."""
    attributes: dict[str, object] = {}
    for name, value in headers:
        if not name.startswith(_PREFIX):
            continue
        attribute = name.removeprefix(_PREFIX)
        if attribute in attributes:
            raise UnreadableError(Reason.INVALID_CLOUDEVENT, f"the header {shown(name)} occurs twice")
        attributes[attribute] = _text_of(name, value)
    return _event(attributes, data)


def from_structured(document: Document) -> Document:
    """The event inside a CloudEvent that is one JSON object."""
    if "data_base64" in document:
        raise UnreadableError(Reason.INVALID_CLOUDEVENT, "the data has to be a JSON object", "data_base64")
    data = document.get("data", {})
    if type(data) is not dict:
        raise UnreadableError(Reason.NOT_AN_OBJECT, f"{described(data)} where an object is expected", "data")
    return _event({name: value for name, value in document.items() if name != "data"}, data)


def _event(attributes: Mapping[str, object], data: Document) -> Document:
    for name in _REQUIRED:
        if not attributes.get(name):
            raise UnreadableError(Reason.INVALID_CLOUDEVENT, f"the attribute {name} is missing", name)
    if attributes[_VERSION_KEY] != VERSION:
        raise UnreadableError(Reason.INVALID_CLOUDEVENT, f"only version {VERSION} is read", _VERSION_KEY)
    event = dict(data)
    for name, key in _KEYS.items():
        if attributes.get(name) is not None:
            event[key] = _agreed(name, attributes[name], key, data.get(key))
    return event


def _agreed(name: str, said: object, key: str, repeated: object) -> str:
    """What an attribute says, where the data does not say something else."""
    if type(said) is not str:
        raise UnreadableError(Reason.INVALID_CLOUDEVENT, f"{described(said)} where a string is expected", name)
    value = said.rpartition(".")[2] if name == "type" else said
    if repeated is None or value == repeated or (type(repeated) is int and value == str(repeated)):
        return value
    detail = f"the attribute {name} says {shown(value)}, and {key} in the data says something else"
    raise UnreadableError(Reason.INVALID_CLOUDEVENT, detail, key)


def _text_of(name: str, value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        raise UnreadableError(Reason.NOT_UTF8, f"the header {shown(name)} is not UTF-8") from None
