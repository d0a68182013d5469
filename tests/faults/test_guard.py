"""A run whose process is gone is torn down by its guard; what both leave when both are gone, by whoever comes next."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conditions import until
from tests.e2e.bench import Bench

WAITS = """
import subprocess, sys, time
from pathlib import Path

def test_it_passes(device):
    pass

def test_it_runs_until_it_is_ended(device):
    # A child that goes its own way, as a daemon does.
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    Path({marker!r}).touch()
    while Path({marker!r}).exists():
        time.sleep(0.01)
"""

FAILS = "def test_it_fails(device):\n    assert False\n"

PASSES = "def test_it_passes(device):\n    pass\n"

SUITE = ("--test-command", "pytest -q tests")


def write_suite(bench: Bench, text: str) -> None:
    (bench.folder / "tests").mkdir(exist_ok=True)
    (bench.folder / "tests" / "test_it.py").write_text(text)


@pytest.fixture
def marker(bench: Bench) -> Path:
    path = bench.folder / "tests-run"
    write_suite(bench, WAITS.format(marker=str(path)))
    return path


def begin(bench: Bench, marker: Path, *words: str) -> subprocess.Popen[str]:
    """Start a run and return it when its tests run."""
    run = bench.popen("hil-test", *SUITE, *words)
    until(lambda: marker.exists() or run.poll() is not None, "the tests run", 60)
    assert run.poll() is None, run.communicate()
    return run


def kill_both(bench: Bench, run: subprocess.Popen[str]) -> None:
    """Kill a run and its guard at once."""
    guard = bench.state()["guard"]["pid"]
    subprocess.run(["kill", "-KILL", str(guard), str(run.pid)], check=True)
    run.communicate()


def unfinished(bench: Bench) -> list[dict[str, str]]:
    status: dict[str, list[dict[str, str]]] = json.loads(bench.run("status", "--json").out)
    return status["unfinished"]


def test_a_killed_run_is_torn_down_by_its_guard(bench: Bench, marker: Path) -> None:
    run = begin(bench, marker)
    run.kill()
    run.communicate()
    until(lambda: not bench.running(), "the guard has torn the run down", 15)
    result = bench.result()
    assert (result["verdict"], result["exit_code"]) == ("cancelled", 137)
    assert result["reason"] == "the run was killed during pytest_session"
    assert [part["name"] for part in result["teardown"]["parts"] if not part["ok"]] == []
    assert unfinished(bench) == []
    assert "its guard tears it down" in (bench.latest / "test-run.log").read_text()


def test_a_guard_that_is_killed_changes_nothing_for_a_run_that_lives(bench: Bench, marker: Path) -> None:
    run = begin(bench, marker)
    subprocess.run(["kill", "-KILL", str(bench.state()["guard"]["pid"])], check=True)
    marker.unlink()
    run.communicate()
    assert run.returncode == 0
    bench.assert_nothing_is_left()


def test_what_a_run_and_its_guard_leave_is_told_by_status_and_cleaned_by_reap(bench: Bench, marker: Path) -> None:
    kill_both(bench, begin(bench, marker))
    assert [left["state"] for left in unfinished(bench)] == ["dead"]
    assert "`roboticks-tasks status --reap`" in bench.run("status").out
    reaped = bench.run("status", "--reap")
    assert reaped.code == 0
    assert reaped.out.endswith(": torn down\n")
    bench.assert_nothing_is_left()
    assert bench.result()["exit_code"] == 137
    assert bench.run("status", "--reap").out == "every run of yours on this machine is torn down\n"


def test_the_next_run_tears_down_what_a_run_and_its_guard_have_left(bench: Bench, marker: Path) -> None:
    kill_both(bench, begin(bench, marker))
    dead = bench.latest
    write_suite(bench, PASSES)
    done = bench.run("hil-test", *SUITE)
    assert done.code == 0, done.err
    assert bench.latest != dead
    assert bench.result(dead)["exit_code"] == 137
    assert unfinished(bench) == []
    bench.assert_nothing_is_left()


def test_the_next_run_waits_for_the_guard_of_a_killed_one(bench: Bench, marker: Path) -> None:
    run = begin(bench, marker)
    write_suite(bench, PASSES)
    run.kill()
    done = bench.run("hil-test", *SUITE)
    run.communicate()
    assert done.code == 0, done.err
    bench.assert_nothing_is_left()


def test_teardown_waits_for_the_guard_of_a_killed_run(bench: Bench, marker: Path) -> None:
    run = begin(bench, marker)
    run.kill()
    done = bench.run("teardown")
    run.communicate()
    assert done.code == 0, done.err
    bench.assert_nothing_is_left()
    assert bench.result()["exit_code"] == 137


def test_reap_leaves_a_run_alone_that_lives(bench: Bench, marker: Path) -> None:
    run = begin(bench, marker)
    reaped = bench.run("status", "--reap")
    assert reaped.code == 0
    assert reaped.out.endswith(": left alone: it is running\n")
    marker.unlink()
    run.communicate()
    assert run.returncode == 0


def test_reap_leaves_a_run_alone_that_is_done_step_by_step(bench: Bench) -> None:
    for step in ("ensure-binary", "launch-dm"):
        assert bench.run(step).code == 0
    reaped = bench.run("status", "--reap")
    assert reaped.code == 0
    assert reaped.out.endswith(": left alone: it is between its steps\n")
    assert bench.run("await-dsn").code == 0
    assert bench.run("teardown").code == 0
    assert unfinished(bench) == []
    bench.assert_nothing_is_left()


def test_a_signal_to_the_guard_of_a_run_that_lives_does_nothing(bench: Bench, marker: Path) -> None:
    run = begin(bench, marker)
    guard = bench.state()["guard"]["pid"]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        subprocess.run(["kill", f"-{number}", str(guard)], check=True)
    run.kill()
    run.communicate()
    until(lambda: not bench.running(), "the guard has torn the run down", 15)
    assert bench.result()["exit_code"] == 137


def test_a_failed_run_is_kept_for_a_look_at_it_until_teardown(bench: Bench) -> None:
    write_suite(bench, FAILS)
    failed = bench.run("hil-test", "--keep-on-failure", "600", *SUITE)
    assert failed.code == 1
    assert "roboticks-tasks teardown" in failed.out
    assert bench.result()["kept_until"]
    words = " ".join(bench.running().values())
    assert "device-manager" in words
    assert "roboticks_tasks.guard" in words

    refused = bench.run("hil-test", *SUITE, "--artifacts", "other")
    assert refused.code == 20
    assert "which failed and is kept until" in refused.sentence
    assert [left["state"].partition(" until ")[0] for left in unfinished(bench)] == ["kept"]
    assert "left alone: it is kept" in bench.run("status", "--reap").out

    write_suite(bench, PASSES)
    again = bench.run("pytest-session", *SUITE)
    assert again.code == 0, again.err
    done = bench.run("teardown")
    assert done.code == 0, done.err
    bench.assert_nothing_is_left()
    assert unfinished(bench) == []


def test_a_kept_run_is_torn_down_when_its_time_is_up(bench: Bench) -> None:
    write_suite(bench, FAILS)
    failed = bench.run("hil-test", "--keep-on-failure", "0.5", *SUITE)
    assert failed.code == 1
    until(lambda: not bench.running(), "the guard has torn the run down", 15)
    result = bench.result()
    assert (result["verdict"], result["exit_code"]) == ("failed", 1)
    assert all(part["ok"] for part in result["teardown"]["parts"])
    assert unfinished(bench) == []


def test_a_run_that_passes_is_torn_down_whatever_is_to_be_kept(bench: Bench) -> None:
    write_suite(bench, PASSES)
    assert bench.run("hil-test", "--keep-on-failure", "600", *SUITE).code == 0
    bench.assert_nothing_is_left()
