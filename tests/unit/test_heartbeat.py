"""When a run gives the board's watchdog a sign of life, and for how long."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from roboticks_tasks.errors import TargetError
from roboticks_tasks.lifecycle.support import heartbeat
from roboticks_tasks.lifecycle.support.heartbeat import MARGIN, Beating, beating
from roboticks_tasks.lifecycle.support.watchdog import BEAT, NOBODY
from roboticks_tasks.models import BackendRef, DeviceManager
from roboticks_tasks.profiles.values import DeviceManagerSpec, Profile
from roboticks_tasks.targets import Completed
from tests.conditions import until

DM = DeviceManager(
    pid=7,
    identity="1-boot",
    binary="",
    root="/robot",
    log_path="/robot/log",
    state_path="/robot/state",
    backend=BackendRef(url="http://127.0.0.1:9"),
)


class Board:
    """A target that keeps what it was told, and a clock that a test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.beats: list[tuple[float, int]] = []
        self.commands: list[str] = []
        self.broken = False
        self.answer = 0
        self.during: Callable[[], None] = lambda: None
        self.users = 0
        self.most_users = 0

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        self.users += 1
        self.most_users = max(self.users, self.most_users)
        try:
            return self._run(argv, stdin)
        finally:
            self.users -= 1

    def _run(self, argv: Sequence[str], stdin: bytes) -> Completed:
        if argv[:2] == ["sh", "-s"]:
            return Completed(0, b"8 1-boot\n", b"")
        if BEAT in argv:
            self.during()
            if self.broken:
                raise TargetError("the link is dead")
            self.beats.append((self.now, int(argv[-1])))
            return Completed(self.answer, b"", b"")
        self.commands.append(argv[0])
        return Completed(0, b"none\n", b"")


@pytest.fixture
def board() -> Board:
    return Board()


def begun(board: Board, *, seconds: float = 30, away: float = 0) -> Beating:
    beats = Beating(board, "/robot", seconds=seconds, away=away, clock=lambda: board.now)
    beats.begin()
    return beats


def test_a_command_is_preceded_by_a_sign_of_life_that_is_good_for_all_the_time_it_may_take(board: Board) -> None:
    beats = begun(board)
    beats.run(["long"], timeout=300)
    beats.end()
    (_, first), (_, second) = board.beats
    assert first == 30
    assert second >= 300 + MARGIN


def test_the_time_that_the_board_may_be_away_counts_as_well(board: Board) -> None:
    beats = begun(board, away=120)
    beats.run(["long"], timeout=300)
    beats.end()
    assert board.beats[0][1] == 150
    assert board.beats[-1][1] >= 300 + MARGIN + 120


def test_at_no_time_of_a_command_has_the_watchdog_counted_to_its_end(board: Board) -> None:
    beats = begun(board)
    for step in range(2000):
        timeout = (0.5, 30, 30, 5, 60)[step % 5]
        beats.run(["each"], timeout=timeout)
        sent, good = board.beats[-1]
        assert sent + good > board.now + timeout
        board.now += (0.1, 29.0, 0.1, 4.9, 1.0)[step % 5]
    beats.end()


def test_many_short_commands_share_one_sign_of_life(board: Board) -> None:
    beats = begun(board)
    for _ in range(100):
        beats.run(["short"])
        board.now += 0.1
    beats.end()
    assert len(board.beats) <= 4


def test_a_long_promise_is_taken_back_as_soon_as_a_sign_of_life_is_due(board: Board) -> None:
    beats = begun(board)
    beats.run(["long"], timeout=3000)
    board.now += 6
    beats.run(["short"], timeout=1)
    beats.end()
    assert board.beats[-1][1] < 60


def test_a_sign_of_life_that_fails_breaks_no_command_and_is_told_once(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    beats = begun(board)
    board.broken = True
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            board.now += 6
            assert beats.run(["work"]).ok
        board.broken = False
        board.now += 6
        beats.run(["work"])
    beats.end()
    assert board.commands == ["work"] * 4
    assert [record.getMessage() for record in caplog.records] == [
        "the board's watchdog gets no sign of life, it stops the device manager in 23 s: the link is dead",
        "the board's watchdog gets signs of life again",
    ]


def test_while_nobody_uses_the_target_a_thread_gives_them(board: Board) -> None:
    beats = begun(board, seconds=0.1)
    until(lambda: len(board.beats) > 3, "the thread gives them")
    beats.end()
    assert beats.is_free


def test_the_thread_and_a_command_never_use_the_target_at_once(board: Board) -> None:
    beats = begun(board, seconds=0.1)
    by_thread = 0

    def linger() -> None:
        nonlocal by_thread
        by_thread += threading.current_thread().name == "heartbeat"
        time.sleep(0.002)  # time for the other one to come in between

    def use() -> bool:
        beats.run(["each"])
        return by_thread > 3

    board.during = linger
    until(use, "the thread has given some")
    beats.end()
    assert board.most_users == 1


def test_after_the_end_there_are_none(board: Board) -> None:
    beats = begun(board)
    beats.end()
    board.now += 100
    beats.run(["late"], timeout=1000)
    assert len(board.beats) == 1


def test_one_that_hangs_does_not_hold_up_the_end_and_is_seen(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "JOIN", 0.01)
    beats = begun(board, seconds=0.1)
    hangs, goes_on = threading.Event(), threading.Event()
    board.during = lambda: (hangs.set(), goes_on.wait(20))[0]  # type: ignore[func-returns-value]
    assert hangs.wait(20)
    beats.end()
    assert not beats.is_free
    goes_on.set()
    until(lambda: beats.is_free, "it has come back")


def test_a_bug_does_not_end_the_thread(board: Board, caplog: pytest.LogCaptureFixture) -> None:
    beats = begun(board, seconds=0.1)

    def fail() -> None:
        raise ZeroDivisionError

    board.during = fail
    until(lambda: "a sign of life could not be given" in caplog.text, "the bug is told")
    board.during = lambda: None
    count = len(board.beats)
    until(lambda: len(board.beats) > count, "the thread goes on")
    beats.end()


@pytest.mark.parametrize("spec", [DeviceManagerSpec(watchdog=0), DeviceManagerSpec(kind="firmware")])
def test_without_a_watchdog_the_target_is_used_as_it_is(board: Board, spec: DeviceManagerSpec) -> None:
    with beating(Profile(device_manager=spec), DM, board) as heard:
        heard.run(["work"], timeout=1000)
    assert board.commands == ["work"]
    assert not board.beats
    assert heard.is_free


def test_a_watchdog_that_nobody_can_tell_anything_is_stopped_and_the_run_goes_on(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    board.answer = NOBODY
    with beating(Profile(), DM, board) as heard:
        assert heard.run(["work"]).ok
    assert board.commands == ["sh", "work"]
    assert "the board has no watchdog: it has ended at once" in caplog.text
