"""What carries a run's id is found and killed on every kind of target, and nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from roboticks_tasks.errors import TargetError
from roboticks_tasks.processes import COOKIE
from roboticks_tasks.targets import Completed, Target
from roboticks_tasks.targets.local import LocalTarget
from roboticks_tasks.targets.sweep import SWEEP, sweep
from tests.conditions import until
from tests.contract.robot import Robot, running_robot, runs
from tests.contract.shells import SHELLS, open_tiny

AWAY = "trap '' TERM; setsid sh -c 'echo $$ >away.new; mv away.new away; exec sleep 60' & echo $! >near; wait"
"""A program with a child in a session of its own."""


@pytest.fixture(scope="module", params=list(SHELLS))
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with SHELLS[request.param]() as opened:
        yield opened


@pytest.fixture
def robot(target: Target, tmp_path: Path) -> Iterator[Robot]:
    with running_robot(target, tmp_path) as one:
        yield one


@pytest.fixture
def run_id(request: pytest.FixtureRequest) -> str:
    """A run's id that no other test has: all targets end up on this machine."""
    return f"20260101T000000-{os.getpid()}-{abs(hash(request.node.nodeid)):x}"


@contextmanager
def sleeping(*variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process of ours that has nothing else in its environment."""
    with subprocess.Popen(["env", "-i", *variables, "sleep", "60"], start_new_session=True) as process:
        try:
            until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "it sleeps")
            yield process
        finally:
            process.kill()


def test_a_child_in_a_session_of_its_own_is_found_with_all_the_others(robot: Robot, run_id: str) -> None:
    process = robot.start(AWAY, **{COOKIE: run_id})
    away = int(robot.await_file("away"))
    assert os.getsid(away) != process.pid
    assert sweep(robot.target, run_id) == 2
    until(lambda: not runs(process.pid) and not runs(away), "both are gone")
    assert sweep(robot.target, run_id) == 0


def test_only_the_very_run_is_meant(target: Target, run_id: str) -> None:
    strangers = [
        (f"{COOKIE}={run_id}0",),
        (f"{COOKIE}=",),
        (f"X{COOKIE}={run_id}",),
        (f"WORDS={COOKIE}={run_id}",),
        (f"LINES=one\n{COOKIE}={run_id}\nthree",),
        ("A=1", f"{COOKIE}={run_id}x"),
    ]
    with ExitStack() as stack:
        others = [stack.enter_context(sleeping(*variables)) for variables in strangers]
        ours = stack.enter_context(sleeping("A=1", f"{COOKIE}={run_id}", "B=2\n3"))
        assert sweep(target, run_id) == 1
        assert ours.wait(10) == -signal.SIGKILL
        assert [each.poll() for each in others] == [None] * len(others)


@pytest.mark.parametrize("odd", ["*", "$(id) it's [a]"])
def test_any_id_is_taken_literally(target: Target, run_id: str, odd: str) -> None:
    with sleeping(f"{COOKIE}={run_id}{odd}") as ours, sleeping(f"{COOKIE}={run_id}") as other:
        assert sweep(target, f"{run_id}{odd}") == 1
        assert ours.wait(10) == -signal.SIGKILL
        assert other.poll() is None


def test_a_run_on_its_own_machine_does_not_kill_itself(
    monkeypatch: pytest.MonkeyPatch, run_id: str, tmp_path: Path
) -> None:
    # A middle process carries the id, as a run does, and runs the sweep; so do its shell and each part of the shell.
    script = tmp_path / "sweep.sh"
    script.write_text(f"{SWEEP}\nsweep '{COOKIE}={run_id}' ''\n")
    monkeypatch.setenv(COOKIE, run_id)
    with sleeping(f"{COOKIE}={run_id}"):
        done = LocalTarget().run(["sh", "-c", 'sh "$1"; echo "and here"', "sh", str(script)])
    assert (done.exit_code, done.text.split("\n")) == (0, ["1", "and here"])


def test_who_is_to_be_spared_is(target: Target, run_id: str) -> None:
    with sleeping(f"{COOKIE}={run_id}") as kept, sleeping(f"{COOKIE}={run_id}") as ours:
        assert sweep(target, run_id, spare=[kept.pid, 1]) == 1
        assert ours.wait(10) == -signal.SIGKILL
        assert kept.poll() is None


def test_what_is_started_anew_when_it_is_killed_is_gone_with_its_supervisor(robot: Robot, run_id: str) -> None:
    script = "echo >done; while :; do setsid sleep 60 & wait; done"
    process = robot.start(script, **{COOKIE: run_id})
    robot.await_file("done")
    assert sweep(robot.target, run_id) >= 1
    until(lambda: not runs(process.pid), "the supervisor is gone")
    assert sweep(robot.target, run_id) == 0


class Blind:
    """A target whose grep does not see what is behind a zero byte."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command with a grep that lists no file."""
        stdin = stdin.replace(b"grep -l", b"false")
        return self._target.run(argv, stdin=stdin, timeout=timeout, repeatable=repeatable)


def test_where_grep_is_of_no_use_each_process_is_looked_at(target: Target, run_id: str) -> None:
    with sleeping("A=1", f"{COOKIE}={run_id}") as ours:
        assert sweep(Blind(target), run_id) == 1
        assert ours.wait(10) == -signal.SIGKILL


def test_a_target_that_cannot_look_says_so(run_id: str) -> None:
    with open_tiny(without=["sh"]) as target, pytest.raises(TargetError, match=f"what the run {run_id} has left .*sh"):
        sweep(target, run_id)


def test_its_own_helpers_are_not_taken_for_the_runs(monkeypatch: pytest.MonkeyPatch, run_id: str) -> None:
    monkeypatch.setenv(COOKIE, run_id)
    assert sweep(LocalTarget(), run_id) == 0
