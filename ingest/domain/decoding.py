"""Turns a Kafka record into an `Event`, or into a `Refusal` that says why and where.

Never raises for bad input, never guesses and never rounds; what means the same gives the same event, however its JSON
is spelt. The registers are given: an unknown one is a refusal, and the caller decides whether to look for it again.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from ingest.domain import cloudevents
from ingest.domain.applying import Registry
from ingest.domain.batches import Decoded
from ingest.domain.decimals import Reader
from ingest.domain.envelope import read_envelope
from ingest.domain.framing import MAGIC, ReadFramed, refuse_framed, without_absent
from ingest.domain.keys import content_digest, id_digest
from ingest.domain.messages import Event, EventType, Limits, Message, Movements, Reason, Refusal
from ingest.domain.movements import MovementReader
from ingest.domain.plain_events import PlainReader
from ingest.domain.registers import Register
from ingest.domain.strict_json import UnreadableError, check_depth, read_object, shown
from ingest.domain.values import name_reader, recorder_reader, recorder_text_reader

# More than this program ever composes of paths and details; what it quotes is short already.
_MAX_PATH_LENGTH: Final = 200
_MAX_DETAIL_LENGTH: Final = 1000


class Decoder:
    """Decodes the events of the registers it was given."""

    def __init__(
        self,
        registers: Mapping[str, Register],
        limits: Limits | None = None,
        read_framed: ReadFramed = refuse_framed,
    ) -> None:
        self._limits = limits or Limits()
        self._plain = PlainReader(registers, self._limits)
        self._registers = {name: _RegisterReader(register, self._limits) for name, register in registers.items()}
        self._tombstone_takers = [name for name, register in registers.items() if register.tombstone_unposts]
        self._read_id = name_reader(self._limits.max_id_length)
        self._read_framed = read_framed

    def decode(self, message: Message) -> Event | Refusal:
        """The event in a record, or why it is none."""
        if message.headers and cloudevents.is_binary(message.headers):
            return self.decode_carefully(message)
        return self._plain.read(message) or self.decode_carefully(message)

    def decode_carefully(self, message: Message) -> Event | Refusal:
        """The same, however unusual the record is: slower, and the judge of what is an event."""
        document: dict[str, object] = {}
        try:
            if message.value is None:
                return self._tombstone(message)
            self._check_length(message.value)
            framed = message.value[0] == MAGIC
            content = self._read_framed(message.value) if framed else message.value
            document = content if isinstance(content, dict) else read_object(content, self._limits.max_depth)
            headers = message.headers
            of_cloudevent = True
            if headers and cloudevents.is_binary(headers):
                document = cloudevents.from_binary(headers, document)
            elif cloudevents.is_structured(document):
                document = cloudevents.from_structured(document)
            else:
                of_cloudevent = False
            if framed:
                document = without_absent(document)
            return self._event(message, document, of_cloudevent=of_cloudevent)
        except UnreadableError as error:
            return self._refusal(message, document, error)

    def _check_length(self, value: bytes) -> None:
        if not value:
            raise UnreadableError(Reason.EMPTY_VALUE, "the value has no bytes")
        if len(value) > self._limits.max_event_bytes:
            detail = f"{len(value)} bytes, and {self._limits.max_event_bytes} are allowed"
            raise UnreadableError(Reason.TOO_LARGE, detail)

    def _event(self, message: Message, document: dict[str, object], *, of_cloudevent: bool = False) -> Event:
        envelope = read_envelope(document)
        register = self._registers.get(envelope.register_name)
        if register is None:
            detail = f"no register is called {shown(envelope.register_name)}"
            raise UnreadableError(Reason.UNKNOWN_REGISTER, detail, "register")
        event_id = _read_at("id", self._read_id, envelope.id)
        recorder = register.recorder(envelope.recorder, is_text=of_cloudevent)
        if message.key is not None:
            register.check_key(message.key, recorder)
        event_type = EventType(envelope.type)
        movements = register.movements.read(envelope.movements or (), envelope.period)
        return Event(
            message=message,
            type=event_type,
            register=envelope.register_name,
            recorder=recorder,
            id=event_id,
            revision=envelope.revision,
            movements=movements,
            id_digest=id_digest(event_id),
            content_digest=content_digest(event_type, envelope.revision, movements),
        )

    def _tombstone(self, message: Message) -> Event:
        """A record without a value unposts its key, where exactly one register takes it so."""
        if message.key is None:
            raise UnreadableError(Reason.EMPTY_VALUE, "the record has neither a value nor a key")
        if len(self._tombstone_takers) != 1:
            takers = ", ".join(self._tombstone_takers) or "none"
            detail = f"exactly one register has to say tombstone_unposts, and these do: {takers}"
            raise UnreadableError(Reason.EMPTY_VALUE, detail)
        (name,) = self._tombstone_takers
        event_id = f"tombstone:{message.topic}:{message.partition}:{message.offset}"
        return Event(
            message=message,
            type=EventType.UNPOST,
            register=name,
            recorder=self._registers[name].recorder_of(message.key),
            id=event_id,
            revision=None,
            movements=Movements(),
            id_digest=id_digest(event_id),
            content_digest=content_digest(EventType.UNPOST, None, Movements()),
        )

    def _refusal(self, message: Message, document: dict[str, object], error: UnreadableError) -> Refusal:
        try:
            check_depth(document, self._limits.max_depth)
        except UnreadableError as deeper:
            error = deeper
        return Refusal(
            message=message,
            reason=error.reason,
            path=error.path[:_MAX_PATH_LENGTH],
            detail=error.detail[:_MAX_DETAIL_LENGTH],
            register=self._legible(document.get("register")),
            recorder=self._legible(document.get("recorder")),
            event_id=self._legible(document.get("id")),
        )

    def _legible(self, value: object) -> str | None:
        """What the event says there, as far as PostgreSQL could store it and a person would read it."""
        try:
            return str(value) if type(value) is int else self._read_id(value)
        except UnreadableError:
            return None


class Decode(Protocol):
    """Turns a message into an event or a refusal, under some declarations."""

    def __call__(self, registry: Registry, message: Message) -> Decoded:
        """Never raises for what is in the message."""


class Decoding:
    """Decodes under the declarations it is given; keeps the decoder of the latest ones."""

    def __init__(self, limits: Limits, read_framed: ReadFramed) -> None:
        self._limits = limits
        self._read_framed = read_framed
        self._latest: tuple[int, Decoder] | None = None

    def __call__(self, registry: Registry, message: Message) -> Event | Refusal:
        """Decode one record."""
        latest = self._latest
        if latest is None or latest[0] != registry.version:
            latest = self._latest = registry.version, Decoder(registry.registers, self._limits, self._read_framed)
        return latest[1].decode(message)


class _RegisterReader:
    """What it takes to read the events of one register."""

    def __init__(self, register: Register, limits: Limits) -> None:
        self.movements = MovementReader(register, limits)
        self._read_recorder = recorder_reader(register.recorder_type, limits)
        self._read_key = recorder_text_reader(register.recorder_type, limits)

    def recorder(self, value: str | int, *, is_text: bool) -> str:
        """The recorder that an event names; the subject of a CloudEvent is text, as a key is."""
        try:
            return self._read_key(value) if is_text and isinstance(value, str) else self._read_recorder(value)
        except UnreadableError as error:
            raise error.inside("recorder") from None

    def recorder_of(self, key: bytes) -> str:
        """The recorder that a record's key names."""
        try:
            return self._read_key(key.decode())
        except UnicodeDecodeError:
            raise UnreadableError(Reason.NOT_UTF8, "the record's key is not UTF-8") from None
        except UnreadableError as error:
            raise UnreadableError(error.reason, f"the record's key: {error.detail}") from None

    def check_key(self, key: bytes, recorder: str) -> None:
        """Refuse an event whose key is not its recorder: Kafka would not keep its order."""
        if key == recorder.encode():
            return
        try:
            named = self.recorder_of(key)
        except UnreadableError as error:
            raise UnreadableError(Reason.KEY_MISMATCH, error.detail) from None
        if named != recorder:
            raise UnreadableError(
                Reason.KEY_MISMATCH, f"the record's key is {shown(named)}, the recorder is {shown(recorder)}"
            )


def _read_at(path: str, read: Reader, value: object) -> str:
    try:
        return read(value)
    except UnreadableError as error:
        raise error.inside(path) from None
