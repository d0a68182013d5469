"""A run whose process is gone is torn down by its guard; what both leave when both are gone, by whoever comes next."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from roboticks_tasks.guard import _act
from roboticks_tasks.lifecycle.support.guarding import Guard, Orders
from roboticks_tasks.profiles import load_profile
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


def test_a_killed_run_is_torn_down_by_its_guard_whatever_that_was_told_before(bench: Bench, marker: Path) -> None:
    run = begin(bench, marker)
    guard = bench.state()["guard"]["pid"]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(guard, number)
    run.kill()
    run.communicate()
    until(lambda: not bench.running(), "the guard has torn the run down", 15)
    result = bench.result()
    assert (result["verdict"], result["exit_code"]) == ("cancelled", 137)
    assert result["reason"] == "the run was killed during pytest_session"
    assert [part["name"] for part in result["teardown"]["parts"] if not part["ok"]] == []
    assert unfinished(bench) == []
    assert "its guard tears it down" in (bench.latest / "test-run.log").read_text()


def test_neither_the_reaper_nor_the_death_of_its_guard_harms_a_run_that_lives(bench: Bench, marker: Path) -> None:
    run = begin(bench, marker)
    reaped = bench.run("status", "--reap")
    assert reaped.code == 0
    assert reaped.out.endswith(": left alone: it is running\n")
    os.kill(bench.state()["guard"]["pid"], signal.SIGKILL)
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

    newer = bench.folder / "home" / ".local" / "state" / "roboticks" / "runs" / "newer.json"
    newer.write_text('{"version": 2}')
    unknown = f"{newer}: damaged, or of another version; whether that run is torn down is not known\n"
    told = bench.run("status", "--reap")
    assert (told.code, told.out) == (17, unknown)
    assert unknown in bench.run("status").out


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


def test_the_next_run_waits_for_the_guard_of_a_killed_one_and_is_not_kept_when_it_passes(
    bench: Bench, marker: Path
) -> None:
    run = begin(bench, marker)
    write_suite(bench, PASSES)
    run.kill()
    done = bench.run("hil-test", "--keep-on-failure", "600", *SUITE)
    run.communicate()
    assert done.code == 0, done.err
    bench.assert_nothing_is_left()


def test_one_teardown_from_anywhere_mends_what_a_run_and_its_guard_have_left(bench: Bench, marker: Path) -> None:
    root = ("--root", str(bench.folder / "root"))
    kill_both(bench, begin(bench, marker, *root))
    elsewhere = bench.folder / "elsewhere"
    elsewhere.mkdir()
    done = bench.run("teardown", *root, folder=elsewhere)
    assert done.code == 0, done.err
    bench.assert_nothing_is_left()
    assert unfinished(bench) == []
    assert bench.result()["exit_code"] == 137


def test_teardown_waits_for_the_guard_of_a_killed_run(bench: Bench, marker: Path) -> None:
    run = begin(bench, marker)
    run.kill()
    done = bench.run("teardown")
    run.communicate()
    assert done.code == 0, done.err
    bench.assert_nothing_is_left()
    assert bench.result()["exit_code"] == 137


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
    assert f"or until `roboticks-tasks teardown --profile sim --artifacts {bench.latest}`" in refused.sentence
    assert [left["state"].partition(" until ")[0] for left in unfinished(bench)] == ["kept"]
    assert "left alone: it is kept" in bench.run("status", "--reap").out

    write_suite(bench, PASSES)
    again = bench.run("pytest-session", *SUITE)
    assert again.code == 0, again.err
    shared = bench.run("hil-test", "--root", "another", *SUITE, "--artifacts", str(bench.latest))
    assert (shared.code, "the folder of a run that is kept until" in shared.sentence) == (2, True)
    done = bench.run("teardown")
    assert done.code == 0, done.err
    bench.assert_nothing_is_left()
    assert unfinished(bench) == []


def test_a_kept_run_is_torn_down_when_its_time_is_up(bench: Bench) -> None:
    write_suite(bench, FAILS)
    failed = bench.run("hil-test", "--keep-on-failure", "0", *SUITE)
    assert failed.code == 1
    until(lambda: not bench.running(), "the guard has torn the run down", 15)
    result = bench.result()
    assert (result["verdict"], result["exit_code"]) == ("failed", 1)
    assert all(part["ok"] for part in result["teardown"]["parts"])
    assert unfinished(bench) == []


def orders(folder: Path) -> bytes:
    """What a guard is told of a run that has nothing to tear down."""
    profile = load_profile("sim", environ={})
    manager = msgspec.structs.replace(profile.device_manager, root=str(folder / "root"))
    platform = msgspec.structs.replace(profile.local_platform, directory=str(folder / "platform"))
    profile = msgspec.structs.replace(profile, device_manager=manager, local_platform=platform)
    return msgspec.json.encode(Orders(profile, str(folder / "run"), "some-run")) + b"\n"


def blocks_sigterm(pid: int) -> bool:
    """Tell whether a process has SIGTERM wait."""
    status = Path(f"/proc/{pid}/status").read_text()
    [mask] = [line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:")]
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


@contextmanager
def guard(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A guard whose run this test plays."""
    command = [sys.executable, "-m", "roboticks_tasks.guard"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=folder, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_guard_is_told_to_keep_a_run_no_longer_even_before_it_has_begun_to(tmp_path: Path) -> None:
    with guard(tmp_path) as process:
        assert process.stdin is not None
        process.stdin.write(orders(tmp_path))
        process.stdin.flush()
        until(lambda: blocks_sigterm(process.pid), "it is ready")
        process.terminate()
        process.communicate(b"keep 600\n", timeout=30)
        assert process.returncode == 0


def test_a_guard_has_a_run_that_it_keeps_only_when_the_run_has_told_its_result() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        guard = Guard(process)
        assert guard.keep(1.5)
        assert process.stdin is not None
        assert not process.stdin.closed
        guard.leave()
        assert process.stdin.closed
        assert process.stdout is not None
        assert process.stdout.read() == b"keep 1.500000\n"


def test_a_guard_without_whole_orders_does_nothing(tmp_path: Path) -> None:
    for said in (b"", orders(tmp_path)[:-1], orders(tmp_path) + b"done\n"):
        with guard(tmp_path) as process:
            assert process.communicate(said, timeout=30)[1] == b""
            assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_teardown_has_all_its_time_before_it_counts_as_stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr("signal.alarm", told.append)
    monkeypatch.setattr("roboticks_tasks.guard._tear_down", lambda *_, **__: None)
    decoded = msgspec.json.decode(orders(tmp_path), type=Orders)
    timeouts = msgspec.structs.replace(decoded.profile.timeouts, teardown=600)
    profile = msgspec.structs.replace(decoded.profile, timeouts=timeouts)
    _act(msgspec.json.encode(Orders(profile, decoded.artifacts, decoded.run_id)), b"")
    assert told > [600]
