"""`pytest --profile sim`: a plain pytest that brings its device up, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest
import requests

from roboticks_tasks.backend.credentials import api_headers
from roboticks_tasks.backend.local import ensure_local, release_local
from roboticks_tasks.profiles.values import LocalPlatform
from tests.conditions import until
from tests.contract.sshd import ALIAS, running_sshd
from tests.e2e.bench import DEADLINE, Bench, Done
from tests.e2e.board_profiles import manager

PASSING = """
import os

def test_device(device, session):
    assert device.dsn == os.environ["ROBOTICKS_DSN"]
    assert session.id == os.environ["ROBOTICKS_SESSION_ID"]

def test_plain(): pass
"""

WATCHED = """
def test_is_watched():
    import pathlib, time
    end = time.monotonic() + 30
    while not pathlib.Path("go").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
"""

WAITING = """
import pathlib, pytest, time

@pytest.fixture
def robot(device):
    yield
    pathlib.Path("torn-down").touch()

def test_waits(robot):
    pathlib.Path("began").touch()
    time.sleep(60)
"""


def start(bench: Bench, text: str, *words: str, **variables: str) -> subprocess.Popen[str]:
    """Start pytest on a module in the bench's folder."""
    (bench.folder / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:schemathesis", "test_it.py", *words]
    environment = {**bench.environment, **variables}
    del environment["PYTEST_ADDOPTS"]
    return subprocess.Popen(
        command,
        cwd=bench.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(bench: Bench, text: str, *words: str, **variables: str) -> Done:
    """Run it to its end."""
    process = start(bench, text, "--profile", "sim", *words, **variables)
    out, err = process.communicate(timeout=DEADLINE)
    assert "Traceback" not in out + err, out + err
    return Done(process.returncode, out, err)


def only_folder(bench: Bench) -> Path:
    """The folder of the only run."""
    [folder] = (each for each in (bench.folder / "test-output").iterdir() if not each.is_symlink())
    return folder


def events(folder: Path) -> list[dict[str, Any]]:
    """What tests.jsonl says of tests that have ended."""
    lines = [json.loads(line) for line in (folder / "tests.jsonl").read_text().splitlines()]
    return [each for each in lines if each["event"] == "case-finished"]


class Passed(NamedTuple):
    """A session that has passed, and what its platform said of it while it went on, and afterwards."""

    done: Done
    live: dict[str, Any]
    over: dict[str, Any]


@pytest.fixture(scope="module")
def passed(shared_bench: Bench) -> Passed:
    """A session with a test that waits until the platform has been asked; it has no run but this one."""
    folder = shared_bench.folder / ".roboticks" / "platform"
    platform = ensure_local(LocalPlatform(directory=str(folder)), run=shared_bench.folder)
    runs = f"{platform.url}/api/v1/organizations/{platform.organization}/projects/{platform.project}/test-runs"

    def ask() -> dict[str, Any]:
        found = requests.get(runs, headers=api_headers(platform), timeout=10).json()
        return found[0] if found else {}

    try:
        process = start(shared_bench, PASSING + WATCHED, "--profile", "sim")
        until(lambda: ask().get("tests_passed") == 2 or process.poll() is not None, "the platform knows of two tests")
        live = ask()
        (shared_bench.folder / "go").touch()
        out, err = process.communicate(timeout=DEADLINE)
        return Passed(Done(process.returncode, out, err), live, ask())
    finally:
        release_local(folder, run=shared_bench.folder)


def test_the_platform_shows_the_run_while_its_tests_go_on_and_its_end(passed: Passed, shared_bench: Bench) -> None:
    keys = ("run_name", "status", "tests_total", "tests_passed")
    name = shared_bench.result()["run_id"]
    assert [passed.live[key] for key in keys] == [name, "running", 3, 2]
    assert [passed.over[key] for key in keys[:2]] == [name, "passed"]
    assert passed.over["id"] == passed.live["id"]


def test_a_plain_pytest_brings_the_device_up_for_its_tests(passed: Passed, shared_bench: Bench) -> None:
    assert passed.done.code == 0, passed.done.out + passed.done.err
    result = shared_bench.result()
    assert (result["verdict"], result["reason"]) == ("passed", "3 tests passed")
    assert [step["name"] for step in result["steps"]][-2:] == ["pytest_session", "teardown"]
    assert all(part["ok"] for part in result["teardown"]["parts"])
    assert f"device {result['dsn']}, session {result['session_id']}" in passed.done.out


def test_its_run_folder_is_that_of_a_run(passed: Passed, shared_bench: Bench) -> None:
    assert [each["outcome"] for each in events(shared_bench.latest)] == ["passed"] * 3
    cases = ElementTree.parse(shared_bench.latest / "results.xml").getroot().iter("testcase")
    assert {"test_device", "test_plain"} <= {case.get("name") for case in cases}
    assert {"device-manager.log", "events.jsonl", "run.json", "test-run.log"} <= {
        each.name for each in shared_bench.latest.iterdir()
    }
    assert not list((shared_bench.folder / "runtime").rglob("pytest-*"))


def test_a_failing_test_is_the_runs_verdict_too_and_one_worker_has_the_board(bench: Bench) -> None:
    text = "import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test_it(device, n): assert n != 2\n"
    done = run(bench, text, "-n2", "--junitxml=own.xml")
    assert done.code == 1, done.out + done.err
    assert bench.result()["reason"] == "1 of 4 tests failed"
    assert len({each["worker"] for each in events(bench.latest)}) == 1
    assert (bench.folder / "own.xml").is_file()


def test_a_bring_up_that_fails_is_one_sentence_and_no_test_runs(bench: Bench) -> None:
    done = run(bench, PASSING, ROBOTICKS_SIM_FAULT="dies-at-start")
    assert done.code == 11
    assert "Exit: bench-error: the device manager ended as soon as it was started" in done.out
    assert "no tests ran" in done.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--profile", "nosuch"], "unknown profile 'nosuch'"),
        (["--profile", "sim", "--board", "other"], "profile 'sim' has no board 'other'"),
    ],
)
def test_a_wrong_name_is_a_usage_error(bench: Bench, words: list[str], sentence: str) -> None:
    process = start(bench, PASSING, *words)
    out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out) == (4, "")
    assert err.startswith(f"ERROR: {sentence}")
    assert "Traceback" not in err


@pytest.mark.parametrize("words", [["--collect-only"], ["--fixtures"], ["-k", "nothing"]])
def test_a_session_without_a_test_starts_no_device(bench: Bench, words: list[str]) -> None:
    assert run(bench, PASSING, *words).code in {0, 5}
    assert not (bench.folder / "test-output").exists()


def test_a_device_that_is_lost_turns_green_tests_into_an_error(bench: Bench) -> None:
    text = """
import os, signal
def test_kills(roboticks_run):
    os.kill(roboticks_run.dm.pid, signal.SIGKILL)
"""
    done = run(bench, text)
    assert "1 passed" in done.out
    assert done.code == 15
    assert "the tests passed, but not the run: bench-error: the device manager ended while the tests ran" in done.err


@pytest.mark.parametrize(
    ("number", "code", "verdict"),
    [(signal.SIGINT, 2, 130), (signal.SIGTERM, 143, 143), (signal.SIGKILL, -signal.SIGKILL, 143)],
)
def test_a_session_that_is_ended_tears_down(bench: Bench, number: int, code: int, verdict: int) -> None:
    process = start(bench, WAITING, "--profile", "sim")
    until((bench.folder / "began").exists, "the test runs")
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == code, out + err
    folder = only_folder(bench)
    until((folder / "result.json").exists, "the run has its verdict")
    result = bench.result(folder)
    assert (result["verdict"], result["exit_code"]) == ("cancelled", verdict)
    assert all(part["ok"] for part in result["teardown"]["parts"])
    if number != signal.SIGKILL:
        assert (bench.folder / "torn-down").exists()
        assert [each["outcome"] for each in events(folder)] == ["skipped"]


@pytest.mark.parametrize(("number", "code", "verdict"), [(signal.SIGINT, 2, 130), (signal.SIGKILL, -9, 143)])
def test_a_session_that_is_ended_while_it_brings_the_device_up_leaves_nothing(
    bench: Bench, number: int, code: int, verdict: int
) -> None:
    process = start(bench, WAITING, "--profile", "sim", ROBOTICKS_SIM_FAULT="registers-late=50")
    files = bench.folder / "test-output"
    until(lambda: any("await_dsn" in each.read_text() for each in files.glob("*/events.jsonl")), "the device starts")
    for _ in range(2):  # a second Ctrl-C is no other than the first
        os.kill(process.pid, number)
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == code, out + err
    folder = only_folder(bench)
    until((folder / "result.json").exists, "the run has its verdict")
    assert (bench.result(folder)["verdict"], bench.result(folder)["exit_code"]) == ("cancelled", verdict)
    assert not (bench.folder / "began").exists()


def test_a_run_that_is_done_step_by_step_is_used_and_left_as_it_is(bench: Bench) -> None:
    for step in ("ensure-binary", "launch-dm", "await-dsn", "await-session", "deploy"):
        assert bench.run(step).code == 0
    before = bench.state()
    for _ in range(2):
        done = run(bench, PASSING)
        assert done.code == 0, done.out + done.err
        assert "the kept run in" in done.out
        after = bench.state(only_folder(bench))
        assert (after["session"], after["teardown"]) == (before["session"], None)
    assert bench.run("teardown").code == 0


def test_a_run_that_is_kept_is_used_and_kept(bench: Bench) -> None:
    (bench.folder / "test_it.py").write_text("def test_fails(device): assert 0\n")
    kept = bench.run(
        "hil-test", "--keep-on-failure", "--test-command", "pytest -p no:cacheprovider -p no:schemathesis test_it.py"
    )
    assert kept.code == 1, kept.err
    before = bench.state()
    done = run(bench, PASSING)
    assert done.code == 0, done.out + done.err
    assert "the kept run in" in done.out
    after = bench.state(only_folder(bench))
    assert (after["run_id"], after["session"], after["teardown"]) == (before["run_id"], before["session"], None)
    assert (after["tests"]["passed"], after["tests"]["failed"]) == (2, 0)
    assert bench.run("teardown").code in {0, 1}


def test_each_worker_has_a_board_of_its_own_where_the_profile_has_several(bench: Bench, tmp_path: Path) -> None:
    text = """
import os, pathlib, pytest, time

@pytest.mark.parametrize("n", range(2))
def test_meets_the_other(roboticks_run, device, n):
    assert os.environ["ROBOTICKS_DSN"] == device.dsn
    pathlib.Path(roboticks_run.board_id).touch()
    end = time.monotonic() + 20
    while not (pathlib.Path("board-1").exists() and pathlib.Path("board-2").exists()):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert roboticks_run.board_id != "board-2"
"""
    with running_sshd(tmp_path / "sshd") as sshd:
        pinned = sshd.known_hosts.read_text()
        sshd.known_hosts.write_text(pinned + pinned.replace(ALIAS, "board-2"))
        boards = sshd.profile_text() + '\n[[boards]]\nid = "board-2"\nhost = "localhost"\n'
        bench.profile("lab", f'backend = "local"\n{boards}{manager("simulated", tmp_path / "{board}")}')
        process = start(bench, text, "--profile", "lab", "-n4")
        out, err = process.communicate(timeout=DEADLINE)
    assert "Traceback" not in out + err, out + err
    assert "2 workers, one for each board of the profile" in out
    assert process.returncode == 1, out + err
    results = {}
    for folder in (bench.folder / "test-output").iterdir():
        if not folder.is_symlink():
            results[bench.state(folder)["board_id"]] = (bench.result(folder)["reason"], len(events(folder)))
    assert results.pop("board-2") == ("1 of 1 tests failed", 1)
    assert list(results.values()) == [("1 test passed", 1)]
