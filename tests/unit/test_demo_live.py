"""What the demo shows while it runs: rates, and the two views that a console can get."""

import io
from decimal import Decimal

import pytest
from rich.console import Console

from ingest.demo.live import Frame, Lines, Moment, Pace, Stock, open_view


def console(*, terminal: bool, encoding: str = "utf-8") -> Console:
    """A console whose output can be read."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    return Console(file=stream, force_terminal=terminal, width=100, height=40, color_system=None)


def output(of: Console) -> str:
    """All that was written, decoded."""
    stream = of.file
    assert isinstance(stream, io.TextIOWrapper)
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(stream.encoding)


def moment(at_s: float, *, mugs: str = "12.000") -> Moment:
    """The moment of a stream of 100 events and 160 movements per second, in batches of 8 ms, 4 a second."""
    return Moment(
        at_s=at_s,
        to_send=30_000,
        sent=int(at_s * 100) + 7,
        applied=int(at_s * 100) - 6,
        duplicates=3,
        stale=2,
        dead_letters=1,
        movements=int(at_s * 160),
        batches=int(at_s * 4),
        batches_s=int(at_s * 4) * 0.008,
        stock=(Stock("mug", Decimal(mugs), Decimal("40.80")),),
    )


def test_rates_are_those_of_the_last_two_seconds() -> None:
    """A burst at the start is forgotten; what is shown is how fast it goes now."""
    pace = Pace()
    pace.add(Moment(at_s=0, to_send=1))
    pace.add(Moment(at_s=1, to_send=1, applied=9000, movements=20_000, batches=1, batches_s=3.0))
    for tenth in range(10, 60):
        later = moment(tenth / 10)
        pace.add(later)
    assert pace.events_per_s == pytest.approx(100, rel=0.1)
    assert pace.movements_per_s == pytest.approx(160, rel=0.1)
    assert pace.batch_ms == pytest.approx(8)


def test_last_known_duration_of_a_batch_stays_when_none_came() -> None:
    """A pause in the stream shows no nonsense such as a division by nothing."""
    pace = Pace()
    for at_s in (0.0, 1.0, 2.0):
        pace.add(moment(at_s))
    for at_s in (3.0, 4.0, 5.0, 6.0):
        pace.add(Moment(at_s=at_s, to_send=1, applied=200, batches=8, batches_s=0.064))
    assert pace.batch_ms == pytest.approx(8)
    assert pace.events_per_s == 0


def test_lag_is_what_was_sent_and_not_dealt_with() -> None:
    """An event counts as dealt with whatever became of it."""
    assert moment(10).events == 1000
    assert moment(10).lag == 7


def test_without_a_terminal_there_are_lines_at_a_pace_and_a_last_one() -> None:
    """A log gets a line every so often, no control characters, and always the final state."""
    log = console(terminal=False)
    with open_view(log, every_s=2.0) as view:
        assert isinstance(view, Lines)
        for tenth in range(51):
            view.show(moment(tenth / 10))
        view.finish()
    lines = output(log).splitlines()
    assert [line.split(" s")[0].strip() for line in lines] == ["2.0", "4.0", "5.0"]
    assert "407 of 30,000 events sent" in lines[1]
    assert "160 movements/s" in lines[1]
    assert "lag 7" in lines[1]
    assert "16 batches of 8 ms" in lines[1]
    assert "mug 12.000" in lines[1]
    assert "\x1b" not in output(log)


def test_on_a_terminal_there_is_a_frame_with_everything() -> None:
    """Progress, rates with their recent past, every outcome, and the direction in which a balance has just moved."""
    terminal = console(terminal=True)
    with open_view(terminal, every_s=2.0) as view:
        assert isinstance(view, Frame)
        for tenth in range(50):
            view.show(moment(tenth / 10))
        view.show(moment(5, mugs="13.000"))
    frame = output(terminal).split("╭")[-1]
    for wanted in ("507 of 30,000 events", "movements/s", "8.0 ms each", "duplicates", "stale", "dead letters", "█"):
        assert wanted in frame
    assert "▲" in frame
    assert "13.000" in frame


def test_frame_needs_no_more_than_the_console_can_write() -> None:
    """A terminal that knows only ASCII gets its frame, without the characters that it has not."""
    terminal = console(terminal=True, encoding="ascii")
    with open_view(terminal, every_s=2.0) as view:
        view.show(moment(4))
        view.show(moment(5, mugs="11.000"))
    assert "507 of 30,000 events" in output(terminal)
