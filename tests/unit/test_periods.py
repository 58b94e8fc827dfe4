"""The window of a register: local days, of 23, 24 and 25 hours, and to the ends of the calendar."""

from datetime import date

import pytest

from ingest.domain.messages import Refusal
from tests.support.events import accepted, decoder, event, record, refused

WINDOW = """
    UTC                  2026-01-01T00:00:00Z              ok
    UTC                  2025-12-31T23:59:59.999999Z       period_out_of_range period
    UTC                  2026-12-31T23:59:59.999999Z       ok
    UTC                  2027-01-01T00:00:00Z              period_out_of_range period
    Asia/Tokyo           2025-12-31T15:00:00Z              ok
    Asia/Tokyo           2025-12-31T14:59:59.999999Z       period_out_of_range period
    Asia/Tokyo           2026-12-31T14:59:59.999999Z       ok
    Asia/Tokyo           2026-12-31T15:00:00Z              period_out_of_range period
    America/New_York     2026-01-01T05:00:00Z              ok
    America/New_York     2026-01-01T04:59:59.999999Z       period_out_of_range period
    America/New_York     2027-01-01T04:59:59.999999Z       ok
    America/New_York     2027-01-01T05:00:00Z              period_out_of_range period
    Pacific/Kiritimati   2025-12-31T10:00:00Z              ok
    Pacific/Kiritimati   2025-12-31T09:59:59Z              period_out_of_range period
    Etc/GMT+12           2027-01-01T11:59:59Z              ok
    Etc/GMT+12           2027-01-01T12:00:00Z              period_out_of_range period
"""


@pytest.mark.parametrize("line", WINDOW.strip().splitlines())
def test_window_is_of_local_days(line: str) -> None:
    """The window begins and ends at midnight in the register's time zone, to the microsecond."""
    time_zone, period, expected = line.split(maxsplit=2)
    window = decoder(time_zone=time_zone, period_min=date(2026, 1, 1), period_max=date(2026, 12, 31))
    result = window.decode(record(event(period=period)))
    assert (refused(result) if isinstance(result, Refusal) else "ok") == expected.strip()


# Clocks go forward at 2026-03-29T01:00Z and back at 2026-10-25T01:00Z in London; the window is that one day.
SHORT_AND_LONG_DAYS = """
    2026-03-29   2026-03-29T00:00:00Z          ok
    2026-03-29   2026-03-28T23:59:59.999999Z   period_out_of_range period
    2026-03-29   2026-03-29T22:59:59.999999Z   ok
    2026-03-29   2026-03-29T23:00:00Z          period_out_of_range period
    2026-03-29   2026-03-29T23:59:59+01:00     ok
    2026-03-29   2026-03-30T00:00:00+01:00     period_out_of_range period
    2026-10-25   2026-10-24T23:00:00Z          ok
    2026-10-25   2026-10-24T22:59:59.999999Z   period_out_of_range period
    2026-10-25   2026-10-25T00:30:00Z          ok
    2026-10-25   2026-10-25T01:30:00Z          ok
    2026-10-25   2026-10-25T23:59:59.999999Z   ok
    2026-10-25   2026-10-26T00:00:00Z          period_out_of_range period
"""


@pytest.mark.scenario("W9")
@pytest.mark.parametrize("line", SHORT_AND_LONG_DAYS.strip().splitlines())
def test_days_of_23_and_25_hours(line: str) -> None:
    """A local day is as long as it is."""
    day, period, expected = line.split(maxsplit=2)
    only = date.fromisoformat(day)
    window = decoder(time_zone="Europe/London", period_min=only, period_max=only)
    result = window.decode(record(event(period=period)))
    assert (refused(result) if isinstance(result, Refusal) else "ok") == expected.strip()


def test_day_that_a_time_zone_left_out() -> None:
    """Samoa had no 30 December 2011: no instant falls into a window of that day."""
    only = date(2011, 12, 30)
    window = decoder(time_zone="Pacific/Apia", period_min=only, period_max=only)
    for period in ("2011-12-30T09:59:59Z", "2011-12-30T10:00:00Z", "2011-12-30T12:00:00Z"):
        assert refused(window.decode(record(event(period=period)))) == "period_out_of_range period"


def test_window_to_the_ends_of_the_calendar() -> None:
    """The widest window there is takes the first and the last instant there is, in any time zone."""
    for time_zone in ("UTC", "Asia/Tokyo", "America/New_York"):
        window = decoder(time_zone=time_zone, period_min=date.min, period_max=date.max)
        for period in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2026-04-18T10:00:00Z"):
            accepted(window.decode(record(event(period=period))))
