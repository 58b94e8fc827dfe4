"""What holds for any bytes at all; imported by the fuzzer, which looks into the modules that are imported here."""

from collections.abc import Iterator

from ingest.domain.decoding import Decoder
from ingest.domain.messages import Event, Limits, Message
from ingest.domain.plain_events import PlainReader
from tests.support.events import EVERYTHING, INVENTORY, refused
from tests.support.poison import GOOD, POISON

REGISTERS = {register.name: register for register in (EVERYTHING, INVENTORY)}
LIMITS = Limits(max_event_bytes=100_000, max_movements=20, max_text_length=50)
DECODER = Decoder(REGISTERS, LIMITS)
PLAIN = PlainReader(REGISTERS, LIMITS)


def seeds(most: int) -> Iterator[bytes]:
    """Where the search begins: what is good, and what is known to be bad."""
    yield GOOD
    yield from (value for _, value, _ in POISON if value is not None and len(value) <= most)


def decodes_like_it_should(data: bytes) -> None:
    """An event or a refusal, the same each time, whichever way it is read."""
    message = Message("fuzz", 0, 0, None, None, data)
    result = DECODER.decode_carefully(message)
    quick = PLAIN.read(message)
    if isinstance(result, Event):
        assert quick is None or quick == result
        assert len(result.recorder.encode()) <= 4 * LIMITS.max_recorder_length
        assert "\0" not in result.recorder + result.id
    else:
        assert quick is None
        refused(result)
    assert DECODER.decode(message) == result
