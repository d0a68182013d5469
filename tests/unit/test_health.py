"""What a run says of its board's health: only what is the board's own counts against it."""

from __future__ import annotations

import signal

import pytest

from roboticks_tasks.boards.health import SAFE_STATE, note_health
from roboticks_tasks.boards.quarantine import note_failure, parked
from roboticks_tasks.errors import BinaryError, BoardError, Cancelled, ConfigError, RoboticksError
from roboticks_tasks.lifecycle.support.verdict import step_result
from roboticks_tasks.models import TeardownPart, TeardownReport
from roboticks_tasks.profiles import Profile
from roboticks_tasks.profiles.values import Board, Quarantine, Target
from roboticks_tasks.state import RunState

PROFILE = Profile(
    name="lab",
    target=Target(kind="ssh"),
    boards=(Board(id="board-1", host="board-1.lab"),),
    quarantine=Quarantine(failures=1),
)


@pytest.fixture(autouse=True)
def bench(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOTICKS_BENCH", str(tmp_path_factory.mktemp("bench") / "shared"))


def run(
    *steps: tuple[str, BaseException | None], safe: bool | None = None, signal_number: int | None = None
) -> RunState:
    part = () if safe is None else (TeardownPart(name=SAFE_STATE, ok=safe, detail="power reads on", duration=0),)
    return RunState(
        run_id="1",
        profile="lab",
        started_at="now",
        signal=signal_number,
        steps=tuple(step_result(name, 0, error) for name, error in steps),
        teardown=TeardownReport(parts=part),
    )


def test_a_board_that_fails_its_preflight_is_counted() -> None:
    note_health(PROFILE, run(("ensure_board", BoardError("no power"))))
    found = parked(PROFILE)
    assert found is not None
    assert "no power" in found.reason


def test_a_board_that_is_not_brought_into_its_safe_state_is_counted() -> None:
    note_health(PROFILE, run(("ensure_board", None), ("ensure_binary", None), safe=False))
    found = parked(PROFILE)
    assert found is not None
    assert "safe state: power reads on" in found.reason


@pytest.mark.parametrize("error", [ConfigError("a key"), BinaryError("missing"), RoboticksError("a bug")])
def test_what_is_not_the_boards_fault_is_not_counted(error: RoboticksError) -> None:
    note_health(PROFILE, run(("ensure_board", None), ("ensure_binary", error), safe=True))
    assert parked(PROFILE) is None


def test_a_cancelled_run_counts_neither_its_step_nor_a_safe_state_that_it_had_no_time_for() -> None:
    cancelled = Cancelled(signal.SIGTERM)
    note_health(PROFILE, run(("ensure_board", cancelled), safe=False, signal_number=signal.SIGTERM))
    assert parked(PROFILE) is None


def test_a_run_that_came_as_far_as_the_binary_clears_the_count_and_one_that_did_not_leaves_it() -> None:
    note_failure(PROFILE, "before")
    note_health(PROFILE, run(("ensure_board", Cancelled(signal.SIGINT)), signal_number=signal.SIGINT))
    assert parked(PROFILE) is not None
    note_health(PROFILE, run(("ensure_board", None), ("ensure_binary", BinaryError("missing"))))
    assert parked(PROFILE) is None
