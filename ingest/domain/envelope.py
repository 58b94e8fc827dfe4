"""The event around its movements, as pydantic models: what is checked at the border and what the JSON Schema says.

Types and presence are decided here. What depends on a register or on a limit, such as columns, times and lengths, is
read afterwards by readers made for it.
"""

from typing import Annotated, Any, Final, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from ingest.domain.messages import EventType, Reason
from ingest.domain.strict_json import UnreadableError, described, path_to, shown

MAX_REVISION: Final = 2**63 - 1


class EventModel(BaseModel):
    """What events of all types have in common. An optional key may be null, which is the same as leaving it out."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    id: Annotated[str, Field(description="Unique per recorder: the same id again changes nothing.")]
    # pydantic's base class has an attribute `register` of its own.
    register_name: Annotated[str, Field(alias="register", description="The register's name.")]
    recorder: Annotated[
        str | int,
        Field(description="The business document, and the record's key. An integer where the register says so."),
    ]
    revision: Annotated[
        int | None,
        Field(ge=0, le=MAX_REVISION, description="Grows with the recorder's events: a lower one is skipped as stale."),
    ] = None
    period: Annotated[
        str | None,
        Field(
            description="Accounting time of movements without their own: RFC 3339 with offset, at most 6 decimals.",
            json_schema_extra={"format": "date-time"},
        ),
    ] = None


class MovementEvent(EventModel):
    """Adds movements to the recorder."""

    type: Literal["movement"]
    movements: Annotated[list[Any], Field(min_length=1)]


class RepostEvent(EventModel):
    """Replaces all of the recorder's movements; an empty list empties it."""

    type: Literal["repost"]
    movements: list[Any]


class UnpostEvent(EventModel):
    """Removes all of the recorder's movements."""

    type: Literal["unpost"]
    movements: None = None


MODELS: Final[dict[EventType, type[MovementEvent] | type[RepostEvent] | type[UnpostEvent]]] = {
    EventType.MOVEMENT: MovementEvent,
    EventType.REPOST: RepostEvent,
    EventType.UNPOST: UnpostEvent,
}

_KEYS: Final = frozenset(field.alias or name for model in MODELS.values() for name, field in model.model_fields.items())

# What pydantic found, in our words; whatever else it finds is a value of another type than expected.
_FAULTS: Final = {
    "missing": (Reason.MISSING_KEY, "every event of this type needs it"),
    "too_short": (Reason.NO_MOVEMENTS, "a movement event moves something; an empty repost empties a recorder"),
    "none_required": (Reason.UNEXPECTED_KEY, "an unpost has no movements; a repost replaces them"),
    "greater_than_equal": (Reason.OUT_OF_RANGE, f"a revision is between 0 and {MAX_REVISION}"),
    "less_than_equal": (Reason.OUT_OF_RANGE, f"a revision is between 0 and {MAX_REVISION}"),
    "string_unicode": (Reason.INVALID_TEXT, "half of a surrogate pair"),
}
_EXPECTED: Final = {"recorder": "a string or an integer", "revision": "an integer", "movements": "an array"}


def read_envelope(document: dict[str, object]) -> MovementEvent | RepostEvent | UnpostEvent:
    """The event's own keys, checked; what is inside `movements` is not looked at."""
    # Before pydantic, which would make an error of each of a million unknown keys.
    if not document.keys() <= _KEYS:
        unknown = next(key for key in document if key not in _KEYS)
        known = ", ".join(sorted(_KEYS))
        raise UnreadableError(Reason.UNKNOWN_KEY, f"an event has the keys {known}", path_to("", unknown))
    try:
        return MODELS[_type_of(document)].model_validate(document)
    except ValidationError as error:
        _refuse(error.errors(include_url=False, include_context=False)[0])


def _type_of(document: dict[str, object]) -> EventType:
    value = document.get("type")
    if value is None:
        raise UnreadableError(Reason.MISSING_KEY, "every event needs it", "type")
    if type(value) is not str:
        raise UnreadableError(Reason.WRONG_TYPE, f"{described(value)} where a string is expected", "type")
    try:
        return EventType(value)
    except ValueError:
        raise UnreadableError(
            Reason.UNKNOWN_TYPE, f"{shown(value)} is none of {', '.join(EventType)}", "type"
        ) from None


def _refuse(error: ErrorDetails) -> NoReturn:
    key, value = str(error["loc"][0]), error["input"]
    wrong_type = f"{described(value)} where {_EXPECTED.get(key, 'a string')} is expected"
    reason, detail = _FAULTS.get(error["type"], (Reason.WRONG_TYPE, wrong_type))
    if value is None:
        reason, detail = _FAULTS["missing"]
    raise UnreadableError(reason, detail, key)
