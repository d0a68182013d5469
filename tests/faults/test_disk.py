"""A disk that gets full in the middle of a run: whatever is left of the run, its verdict is written, and whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from roboticks_tasks.disk import RESERVE
from roboticks_tasks.lifecycle.support.result import write_result
from roboticks_tasks.models import RunResult
from roboticks_tasks.state import RunState
from tests.contract.small_disk import SmallDisk, open_small_disk
from tests.e2e.bench import Bench
from tests.e2e.conftest import bench

__all__ = ["bench"]

# Runs the lifecycle, and when it tells of a certain event fills the run's disk, or runs a command. Whatever room the
# run frees is taken from then on.
RUN = """
import os, subprocess, sys, threading, time
from pathlib import Path
from roboticks_tasks import load_profile
from roboticks_tasks.lifecycle import pipeline
event, step, artifacts, command, *instead = sys.argv[1:]
folder = Path(artifacts)
def fill():
    with open(folder.parent / "fill", "ab", buffering=0) as stream:
        size = 65536
        while size:
            try:
                stream.write(bytes(size))
            except OSError:
                size //= 2
def sink(told):
    if type(told).__name__ != event or told.name != step:
        return
    if instead:
        subprocess.run(instead, check=True)
    else:
        fill()
        threading.Thread(target=hog, daemon=True).start()
def hog():
    while True:
        fill()
        time.sleep(0.005)
profile = load_profile("sim", overrides={"tests.command": command})
result = pipeline.main(profile, artifacts=folder, sink=sink)
print(result.reason)
sys.stdout.flush()
os._exit(result.exit_code)
"""

COMMAND = "pytest test_it.py -q -p no:anyio -p no:cacheprovider"


@pytest.fixture
def disk(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    path = tmp_path_factory.mktemp("disk")  # not in the bench's folder, for its holder is no process of a run
    (bench.folder / "test_it.py").write_text("def test_one(): pass\n")
    with open_small_disk(path, size="8m") as mounted:
        if mounted is None:
            pytest.skip("this machine allows no mounts")
        yield mounted


class Ended:
    """A run that ended on a small disk, and what it has left there."""

    def __init__(self, bench: Bench, disk: SmallDisk, *argv: str) -> None:
        words = [*disk.enter, "env", "-C", str(bench.folder), sys.executable, *argv]
        done = subprocess.run(words, env=bench.environment, capture_output=True, text=True, timeout=60, check=False)
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.folder = disk.folder / "run"
        assert "Traceback" not in done.stderr, done.stderr
        bench.assert_nothing_is_left()

    @property
    def result(self) -> RunResult:
        return msgspec.json.decode((self.folder / "result.json").read_bytes(), type=RunResult)

    @property
    def properties(self) -> dict[str | None, str | None]:
        root = ElementTree.parse(self.folder / "results.xml").getroot()
        return {each.get("name"): each.get("value") for each in root.iter("property")}

    def case(self, name: str) -> ElementTree.Element:
        cases = ElementTree.parse(self.folder / "results.xml").getroot().iter("testcase")
        return next(case for case in cases if case.get("name") == name)


def assert_whole(ended: Ended) -> None:
    """Fail unless the result is there, whole, told alike everywhere, and nothing of the writing is left."""
    assert ended.result.exit_code == ended.code, ended.err
    msgspec.json.decode((ended.folder / "run.json").read_bytes(), type=RunState)
    assert ended.properties["roboticks_tasks.verdict"] == ended.result.verdict
    assert [path.name for path in ended.folder.iterdir() if path.name.startswith(RESERVE)] == []
    assert [path.name for path in ended.folder.iterdir() if path.name.endswith(".new")] == []
    assert ended.result.teardown is not None
    assert [part for part in ended.result.teardown.parts if not part.ok] == []


@pytest.mark.parametrize(
    "step", ["ensure_board", "ensure_binary", "launch_dm", "await_session", "deploy", "pytest_session"]
)
def test_a_disk_that_is_full_when_a_step_begins_ends_the_run_in_order(bench: Bench, disk: SmallDisk, step: str) -> None:
    ended = Ended(bench, disk, "-c", RUN, "StepStarted", step, f"{disk.path}/run", COMMAND)
    assert_whole(ended)
    assert (ended.code, ended.result.verdict) == (2, "config-error")
    assert "cannot be written: No space left on device; free space" in ended.result.reason
    assert [each.name for each in ended.result.steps if each.outcome != "ok"] == [step]
    assert ended.case(step).find("error") is not None


@pytest.mark.parametrize(("event", "step"), [("StepFinished", "pytest_session"), ("StepStarted", "teardown")])
def test_the_verdict_of_tests_that_have_passed_outlives_the_disk(
    bench: Bench, disk: SmallDisk, event: str, step: str
) -> None:
    ended = Ended(bench, disk, "-c", RUN, event, step, f"{disk.path}/run", COMMAND)
    assert_whole(ended)
    assert (ended.code, ended.result.verdict) == (18, "passed"), ended.result.reason
    assert ended.result.reason.startswith("1 test passed, but a report could not be written: ")
    assert [ended.case("test_one").find(kind) for kind in ("failure", "error")] == [None, None]
    log = (ended.folder / "device-manager.log").read_text()
    assert "Registering with" in log


def test_tests_that_fill_the_disk_have_no_verdict_and_the_report_says_why(bench: Bench, disk: SmallDisk) -> None:
    (bench.folder / "test_it.py").write_text(
        "import subprocess\n"
        f"def test_one(): subprocess.run('head -c 99000000 /dev/zero >{disk.path}/fill', shell=True)\n"
    )
    words = ["hil-test", "--artifacts", f"{disk.path}/run", "--test-command", COMMAND]
    ended = Ended(bench, disk, "-m", "roboticks_tasks", *words)
    assert_whole(ended)
    assert ended.code == 15
    assert ended.case("pytest_session").find("error") is not None
    assert "its JUnit file is cut off" in ended.result.reason


def test_a_folder_that_becomes_read_only_is_torn_down_and_told(bench: Bench, disk: SmallDisk) -> None:
    remount = ["mount", "-o", "remount,ro", disk.path]
    ended = Ended(bench, disk, "-c", RUN, "StepFinished", "pytest_session", f"{disk.path}/run", COMMAND, *remount)
    assert ended.code == 17, ended.out  # what teardown did cannot be recorded
    assert "cannot be written: Read-only file system" in ended.out
    assert not (ended.folder / "result.json").exists()


def test_a_disk_without_room_for_the_reserve_is_refused_before_anything_starts(bench: Bench, disk: SmallDisk) -> None:
    disk.remount("size=128k")
    ended = Ended(bench, disk, "-m", "roboticks_tasks", "hil-test", "--artifacts", f"{disk.path}/run")
    assert ended.code == 2
    assert "cannot be written: No space left on device; free space" in ended.err
    assert not (bench.folder / ".roboticks" / "platform").exists()


def test_a_report_that_was_cut_off_with_its_run_is_replaced_by_one_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "pytest.xml").write_text('<testsuites><testsuite><testcase name="whole"/><testcase name="half')
    result = RunResult(
        run_id="r", profile="sim", verdict="cancelled", exit_code=143, reason="signal 15", started_at="", duration=1
    )
    assert write_result(tmp_path, result) == result
    root = ElementTree.parse(tmp_path / "results.xml").getroot()
    errors = [str(error.get("message")) for error in root.iter("error")]
    assert errors[0] == "signal 15"
    assert "cut off" in errors[1]
    assert [case.get("name") for case in root.iter("testcase")][-1] == "whole"
