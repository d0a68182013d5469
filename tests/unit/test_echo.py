"""What a device logs is shown as fast as people can follow, and read as fast as it comes."""

from __future__ import annotations

import logging

import pytest

from roboticks_tasks.bounded import WIDEST
from roboticks_tasks.lifecycle.support.echo import BURST, STEADY, WORTHWHILE, Echo
from roboticks_tasks.lifecycle.support.pacing import FIRST, LEAST, MOST, TOO_FAR_BEHIND, Pacing


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def echo(clock: Clock, caplog: pytest.LogCaptureFixture) -> Echo:
    caplog.set_level(logging.INFO, logger="roboticks_tasks.device")
    return Echo(clock=clock)


def numbered(first: int, count: int) -> list[str]:
    return [str(number) for number in range(first, first + count)]


def test_a_boot_is_shown_whole(echo: Echo, caplog: pytest.LogCaptureFixture) -> None:
    echo.show(numbered(0, BURST))
    assert caplog.messages == numbered(0, BURST)


def test_of_a_flood_the_latest_lines_are_shown_and_the_others_counted(
    echo: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    echo.show(numbered(0, BURST * 10))
    hidden = BURST * 10 - (BURST - 1)
    assert caplog.messages == [
        f"({hidden} lines that came too fast are not shown)",
        *numbered(hidden, BURST - 1),
    ]


def test_a_flood_that_goes_on_is_shown_in_glimpses_and_every_line_is_shown_or_counted(
    echo: Echo, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for look in range(600):
        echo.show(numbered(look * 1_000, 1_000))
        clock.now += 0.05
    echo.show([])
    clock.now += 60
    echo.show(["last"])
    notes = [int(line[1:].split()[0]) for line in caplog.messages if line.startswith("(")]
    shown = [line for line in caplog.messages if not line.startswith("(")]
    assert sum(notes) + len(shown) == 600_001
    assert shown[-1] == "last"
    assert len(shown) <= BURST + STEADY * 30 + 1
    assert len(notes) <= STEADY * 30 / WORTHWHILE + 2


def test_after_a_flood_single_lines_are_shown_again(echo: Echo, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    echo.show(numbered(0, BURST * 2))
    clock.now += 1.0
    caplog.clear()
    echo.show(["one"])
    assert caplog.messages == ["one"]


def test_a_line_of_ten_megabytes_is_cut(echo: Echo, caplog: pytest.LogCaptureFixture) -> None:
    echo.show(["x" * 10_000_000])
    assert caplog.messages == ["x" * WIDEST + "\u2026 (10000000 characters)"]


def look(pacing: Pacing, clock: Clock, *, seconds: float, behind: int = 0) -> bool:
    """Make a look that takes so long and is full; tell whether it was to begin near the end."""
    skips = pacing.begin()
    clock.now += seconds
    pacing.end(pacing.most, behind)
    return skips


def test_a_fast_log_is_read_in_larger_pieces_up_to_a_bound(clock: Clock) -> None:
    pacing = Pacing(clock=clock)
    sizes = []
    for _ in range(6):
        sizes.append(pacing.most)
        look(pacing, clock, seconds=0.01)
    assert sizes[0] == FIRST
    assert sizes == sorted(sizes)
    assert pacing.most == MOST


def test_a_slow_log_is_read_in_smaller_pieces_down_to_a_bound(clock: Clock) -> None:
    pacing = Pacing(clock=clock)
    for _ in range(6):
        look(pacing, clock, seconds=2.0)
    assert pacing.most == LEAST


def test_a_log_that_cannot_be_caught_up_with_is_followed_from_its_end(clock: Clock) -> None:
    pacing = Pacing(clock=clock)
    rate = FIRST / 0.5
    look(pacing, clock, seconds=0.5, behind=int(rate * TOO_FAR_BEHIND * 0.9))
    assert not look(pacing, clock, seconds=0.5, behind=int(rate * TOO_FAR_BEHIND * 1.1))
    assert look(pacing, clock, seconds=0.5)


def test_a_look_that_is_not_full_changes_nothing(clock: Clock) -> None:
    pacing = Pacing(clock=clock)
    for seconds in (0.01, 5.0):
        assert not pacing.begin()
        clock.now += seconds
        pacing.end(FIRST - 1, 10**9)
    assert not pacing.begin()
    assert pacing.most == FIRST
