"""Waits: on a clock that does not jump, ended at once by a value or by whatever the probe raises."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from roboticks_tasks.errors import Cancelled, TargetError
from roboticks_tasks.waiting import Deadline, Pace, first


class Clock:
    """A clock that only moves when somebody sleeps, or when a probe takes its time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def after(calls: int, value: str = "found") -> Callable[[], str | None]:
    """Return a probe that has its value with its `calls`-th call."""
    left = iter([None] * (calls - 1))
    return lambda: next(left, value)


def test_a_deadline_counts_down_to_nothing(clock: Clock) -> None:
    deadline = Deadline(5, clock=clock)
    assert (deadline.elapsed, deadline.remaining, deadline.expired) == (0, 5, False)
    clock.now += 4
    assert (deadline.elapsed, deadline.remaining, deadline.expired) == (4, 1, False)
    clock.now += 4
    assert (deadline.elapsed, deadline.remaining, deadline.expired) == (8, 0, True)


def test_the_first_value_ends_the_wait(clock: Clock) -> None:
    assert first(after(3), deadline=Deadline(10, clock=clock), interval=0.5, sleep=clock.sleep) == "found"
    assert clock.slept == [0.5, 0.5]


@pytest.mark.parametrize("value", [0, "", False, ()])
def test_only_none_means_not_yet(clock: Clock, value: object) -> None:
    assert first(lambda: value, deadline=Deadline(10, clock=clock), sleep=clock.sleep) == value


def test_the_wait_ends_with_none_and_never_later_than_the_deadline(clock: Clock) -> None:
    deadline = Deadline(1, clock=clock)
    assert first(after(1000), deadline=deadline, interval=0.3, sleep=clock.sleep) is None
    assert 0.7 <= deadline.elapsed <= 1


def test_a_probe_that_blocks_is_asked_until_the_deadline_and_no_longer(clock: Clock) -> None:
    calls = []

    def probe() -> None:
        calls.append(clock.now)
        clock.now += 0.4

    assert first(probe, deadline=Deadline(1, clock=clock), sleep=clock.sleep) is None
    assert len(calls) == 3


def test_even_without_any_time_the_probe_is_asked_once(clock: Clock) -> None:
    assert first(after(1), deadline=Deadline(0, clock=clock), sleep=clock.sleep) == "found"
    assert first(after(2), deadline=Deadline(0, clock=clock), sleep=clock.sleep) is None


@pytest.mark.parametrize("error", [TargetError("the link broke"), Cancelled(15), KeyboardInterrupt(), ValueError("x")])
def test_what_the_probe_raises_passes_through_at_once(clock: Clock, error: BaseException) -> None:
    def probe() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        first(probe, deadline=Deadline(10, clock=clock), interval=1, sleep=clock.sleep)
    assert raised.value is error
    assert clock.slept == []


def test_a_pace_is_due_at_once_and_then_after_its_time() -> None:
    now = [10.0]
    pace = Pace(1.0, clock=lambda: now[0])
    assert pace.is_due()
    assert not pace.is_due()
    now[0] += 0.99
    assert not pace.is_due()
    now[0] += 0.02
    assert pace.is_due()
