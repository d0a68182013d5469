"""How far a board's clock is from this machine's: over a real ssh, with a clock that is shifted, and without %N."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from roboticks_tasks.errors import TargetError
from roboticks_tasks.lifecycle.support.clock import ROUNDS, read_clock
from roboticks_tasks.targets import Completed, Target
from roboticks_tasks.targets.local import LocalTarget
from roboticks_tasks.targets.ssh import open_ssh
from tests.contract.shells import open_tiny
from tests.contract.sshd import running_sshd
from tests.faults.clocks import faked_clock

HOUR = 3600


class Shifted:
    """A target on which every command has another environment."""

    def __init__(self, target: Target, environment: dict[str, str]) -> None:
        self._target = target
        self._words = ["env", *(f"{name}={value}" for name, value in environment.items())]

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        return self._target.run([*self._words, *argv], stdin=stdin, timeout=timeout, repeatable=repeatable)


class Board:
    """A target that takes `there` and `back` seconds for the ways to it, by a clock of its own that is `ahead`."""

    def __init__(self, *, ahead: float, ways: Sequence[tuple[float, float]], form: str = "") -> None:
        self.now = 1_795_386_852.0
        self.asked = 0
        self.set_by = 0.0  # after each answer
        self.ahead = ahead
        self._ways = ways
        self._form = form

    def clock(self) -> float:
        return self.now

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        there, back = self._ways[self.asked % len(self._ways)]
        self.asked += 1
        self.now += there
        shown = self.now + self.ahead
        self.now += back
        self.ahead += self.set_by
        text = f"{int(shown)}{self._form}" if self._form else f"{shown:.9f}"
        return Completed(0, f"{text}\n".encode(), b"")


class Silent:
    """A target that says something else, or nothing."""

    def __init__(self, outcome: Completed | Exception) -> None:
        self._outcome = outcome

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


@pytest.fixture(scope="module")
def ssh() -> Iterator[Target]:
    with (
        tempfile.TemporaryDirectory() as folder,
        running_sshd(Path(folder) / "sshd") as sshd,
        open_ssh(sshd.profile()) as target,
    ):
        yield target


def test_a_shifted_clock_is_found_over_ssh_within_its_error(ssh: Target, tmp_path: Path) -> None:
    with faked_clock(tmp_path) as clock:
        board = Shifted(ssh, clock.environment)
        for shift in (0, 3 * HOUR, -5 * HOUR):
            clock.shift(shift)
            before = time.time()
            reading = read_clock(board)
            assert reading is not None
            assert abs(reading.offset - shift) <= reading.error + 1e-3
            assert reading.error < 1
            assert before <= reading.at <= time.time()


def test_this_machine_is_not_asked() -> None:
    target = LocalTarget(environment={})  # nothing would be found
    reading = read_clock(target)
    assert reading is not None
    assert (reading.offset, reading.error) == (0, 0)


def test_a_board_with_busybox_alone_tells_as_much_as_it_can() -> None:
    with open_tiny() as target:
        reading = read_clock(target)
    assert reading is not None
    assert abs(reading.offset) <= reading.error + 1e-3
    assert reading.error <= 0.75


@pytest.mark.parametrize("form", [" ", ".", ".%N", ".N"])
def test_a_date_without_fractions_is_right_to_half_a_second(form: str) -> None:
    board = Board(ahead=100.25, ways=[(0.001, 0.001)], form=form)
    reading = read_clock(board, wall=board.clock, monotonic=board.clock)
    assert reading is not None
    assert abs(reading.offset - 100.25) <= reading.error
    assert 0.4 < reading.error < 0.502


def test_the_fastest_answer_decides() -> None:
    board = Board(ahead=-7.5, ways=[(0.15, 0.05), (0.0, 0.002), (0.1, 0.1)])
    reading = read_clock(board, wall=board.clock, monotonic=board.clock)
    assert reading is not None
    assert reading.error <= 0.0011
    assert abs(reading.offset + 7.5) <= reading.error + 1e-6
    assert board.asked == ROUNDS


def test_of_answers_that_contradict_each_other_the_fastest_is_believed() -> None:
    board = Board(ahead=0, ways=[(0.1, 0.1), (0.001, 0.001), (0.1, 0.1)])
    board.set_by = 50
    reading = read_clock(board, wall=board.clock, monotonic=board.clock)
    assert reading is not None
    assert reading.offset == pytest.approx(50, abs=0.01)


def test_a_slow_board_is_not_asked_often() -> None:
    board = Board(ahead=0, ways=[(0.7, 0.5)])
    reading = read_clock(board, wall=board.clock, monotonic=board.clock)
    assert reading is not None
    assert board.asked == 1
    assert reading.error == pytest.approx(0.6)


@pytest.mark.parametrize(
    "outcome",
    [
        TargetError("the link broke"),
        OSError("no file descriptors"),
        Completed(127, b"", b"date: not found"),
        Completed(0, b"", b""),
        Completed(0, b"Sun Nov 22\n", b""),
        Completed(1, b"1795386852.0\n", b""),
    ],
)
def test_a_board_that_does_not_tell_the_time_has_no_reading(outcome: Completed | Exception) -> None:
    assert read_clock(Silent(outcome)) is None
