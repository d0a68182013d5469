"""Every way in, every signal, sent to the process or to its group: in order to the end, and nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.conditions import until
from tests.e2e.bench import DEADLINE, Bench

ROOT = Path(__file__).resolve().parents[2]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

WAITS = """
import os, time
from pathlib import Path

def test_passes():
    pass

def test_waits(request):
    if "robot" in request.fixturenames or Path("conftest.py").exists():
        request.getfixturevalue("robot")
    Path("marks").write_text(os.environ.get("ROBOTICKS_RUN_ID", ""))
    Path("waiting").touch()
    time.sleep(60)
"""

CONFTEST = """
import json, time
from pathlib import Path
import pytest
import roboticks_tasks as rt

@pytest.fixture(scope="session")
def robot():
    profile, artifacts = rt.load_profile("sim"), Path("out")
    dm = session = backend = None
    try:
        binary = rt.ensure_binary(profile)
        backend = rt.ensure_backend(profile, artifacts=artifacts)
        dm = rt.launch_dm(profile, binary, backend, artifacts=artifacts)
        dsn = rt.await_dsn(profile, dm)
        session = rt.await_session(profile, dm, dsn, backend)
        yield session
    finally:
        Path("tearing-down").touch()
        end = time.monotonic() + 8
        while Path("hold").exists() and time.monotonic() < end:
            time.sleep(0.01)
        report = rt.teardown(profile, artifacts=artifacts, dm=dm, session=session, backend=backend)
        Path("torn-down.json").write_text(json.dumps({part.name: [part.ok, part.detail] for part in report.parts}))
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench on which nothing may be left; its pytest loads no plugin but those that the tests here are about."""
    one = Bench(tmp_path)
    one.environment |= {
        "PATH": f"{Path(sys.executable).parent}:{one.environment['PATH']}",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "-p roboticks_tasks.pytest_plugin -p no:cacheprovider",
    }
    (tmp_path / "test_waits.py").write_text(WAITS)
    try:
        yield one
        one.assert_nothing_is_left()
    finally:
        one.kill_everything()


def hil_test(bench: Bench) -> list[str]:
    return [
        *(sys.executable, "-m", "roboticks_tasks", "hil-test", "--test-command", "pytest test_waits.py"),
        *("--composition", "HeartbeatComposition"),
    ]


def through_nox(bench: Bench) -> list[str]:
    """The project's own noxfile, in the running interpreter instead of an environment that it makes."""
    for name in ("noxfile.py", "pyproject.toml"):
        shutil.copy(ROOT / name, bench.folder)
    return [sys.executable, "-m", "nox", "--no-venv", "-s", "hil-test", "--", *hil_test(bench)[4:]]


def own_fixture(bench: Bench) -> list[str]:
    (bench.folder / "conftest.py").write_text(CONFTEST)
    return [sys.executable, "-m", "pytest", "test_waits.py", "--junitxml=results.xml"]


def own_fixture_in_worker(bench: Bench) -> list[str]:
    return [*own_fixture(bench), "-p", "xdist", "-n1"]


Way = Callable[[Bench], list[str]]
FIXTURES: tuple[Way, ...] = (own_fixture, own_fixture_in_worker)


def start(bench: Bench, command: Sequence[str], **variables: str) -> subprocess.Popen[bytes]:
    with (bench.folder / "output").open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=bench.folder,
            env=bench.environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def there(bench: Bench, process: subprocess.Popen[bytes], name: str) -> None:
    """Wait until a file is there, or the process has ended without it."""
    path = bench.folder / name
    until(lambda: path.exists() or process.poll() is not None, name, timeout=DEADLINE)
    assert path.exists(), (bench.folder / "output").read_text()


def send(process: subprocess.Popen[bytes], number: int, to: str) -> None:
    if to == "group":
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)


def ended(bench: Bench, process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of the process, and of a run that it has left; return the exit code."""
    try:
        code = process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        pytest.fail(
            f"it has not ended, there are {bench.running()}: {(bench.folder / 'output').read_text()}", pytrace=False
        )
    until(lambda: not bench.running(), f"nothing of {bench.running()} is left", timeout=DEADLINE)
    return code


def passed(junit: Path) -> list[str]:
    """The names of the tests that passed; none has failed, and the one that was broken off says so."""
    suite = ElementTree.parse(junit).getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")
    assert all(case.get("name") for case in suite.iter("testcase"))
    return [case.get("name", "") for case in suite.iter("testcase") if case.find("skipped") is None]


def assert_torn_down(parts: dict[str, Any]) -> None:
    assert all(ok for ok, _ in parts.values()), parts
    assert parts["session"][1].startswith("stopped "), parts
    assert parts["device manager"][1].startswith("stopped "), parts


def assert_cancelled(bench: Bench, code: int) -> None:
    result = bench.result()
    assert (result["verdict"], result["exit_code"]) == ("cancelled", code), result["reason"]
    parts = {part["name"]: (part["ok"], part["detail"]) for part in result["teardown"]["parts"]}
    assert all(ok for ok, _ in parts.values()), parts


def assert_own_fixture_ended(bench: Bench, *, log: str = "Session completed") -> None:
    assert_torn_down(json.loads((bench.folder / "torn-down.json").read_text()))
    assert log in (bench.folder / "out" / "device-manager.log").read_text()
    assert passed(bench.folder / "results.xml") == ["test_passes"]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize(("way", "to"), [(hil_test, "group"), (through_nox, "pid"), (through_nox, "group")])
def test_a_signal_ends_a_run_in_order(bench: Bench, way: Way, number: signal.Signals, to: str) -> None:
    process = start(bench, way(bench))
    there(bench, process, "waiting")
    send(process, number, to)
    code = ended(bench, process)
    told = number
    if way is through_nox:
        assert code != 0
        told = number if to == "group" else signal.SIGTERM  # what nox sends, or the kernel for it
    else:
        assert code == 128 + number, (bench.folder / "output").read_text()
    assert_cancelled(bench, 128 + told)
    result = bench.result()
    assert_torn_down({part["name"]: (part["ok"], part["detail"]) for part in result["teardown"]["parts"]})
    assert passed(bench.latest / "pytest.xml") == ["test_passes"]
    assert (bench.folder / "marks").read_text() == bench.state()["run_id"]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("way", FIXTURES)
def test_a_signal_tears_down_what_a_users_own_fixture_brought_up(
    bench: Bench, way: Way, number: signal.Signals
) -> None:
    process = start(bench, way(bench))
    there(bench, process, "waiting")
    process.send_signal(number)
    code = ended(bench, process)
    assert code == (2 if number == signal.SIGINT else 128 + number), (bench.folder / "output").read_text()
    assert_own_fixture_ended(bench)


@pytest.mark.parametrize("first", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("way", FIXTURES)
def test_no_later_signal_breaks_off_a_users_own_teardown(bench: Bench, way: Way, first: signal.Signals) -> None:
    (bench.folder / "hold").touch()
    process = start(bench, way(bench))
    there(bench, process, "waiting")
    for _ in range(3):
        send(process, first, "group")
    there(bench, process, "tearing-down")
    for number in (*SIGNALS, *SIGNALS):
        send(process, number, "group")
    (bench.folder / "hold").unlink()
    code = ended(bench, process)
    assert code == (2 if first == signal.SIGINT else 128 + first), (bench.folder / "output").read_text()
    assert_own_fixture_ended(bench)


def in_step(bench: Bench, process: subprocess.Popen[bytes], name: str) -> None:
    """Wait until a run is in a step."""
    event = f'"name":"{name}"'

    def begun() -> bool:
        found = list(bench.folder.glob("test-output/*/events.jsonl"))
        return process.poll() is not None or any(
            event in line.replace(" ", "") and "step-started" in line
            for path in found
            for line in path.read_text().splitlines()
        )

    until(begun, f"{name} has begun", timeout=DEADLINE)


STEPS = ("ensure_board", "ensure_binary", "ensure_backend", "launch_dm", "await_dsn", "await_session", "deploy")


@pytest.mark.parametrize("step", STEPS)
def test_a_signal_in_any_step_ends_the_run_in_order(bench: Bench, step: str) -> None:
    process = start(bench, hil_test(bench))
    in_step(bench, process, step)
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        send(process, number, "group")
        if number == signal.SIGTERM:
            in_step(bench, process, "teardown")
    assert ended(bench, process) == 143, (bench.folder / "output").read_text()
    assert_cancelled(bench, 143)
    assert ElementTree.parse(bench.latest / "results.xml").getroot().find("testsuite") is not None


def test_a_signal_in_the_teardown_of_a_run_that_passed_is_told_and_breaks_nothing(bench: Bench) -> None:
    process = start(bench, [*hil_test(bench), "--", "-k", "passes"])
    in_step(bench, process, "teardown")
    for number in (signal.SIGHUP, *SIGNALS):
        send(process, number, "group")
    assert ended(bench, process) == 129, (bench.folder / "output").read_text()
    assert_cancelled(bench, 129)
    assert passed(bench.latest / "pytest.xml") == ["test_passes"]


def child_of(process: subprocess.Popen[bytes]) -> int:
    """The pid of the only worker of a controller of xdist."""
    [worker] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(worker)


def test_a_worker_whose_controller_is_killed_tears_down_and_ends(bench: Bench) -> None:
    process = start(bench, own_fixture_in_worker(bench))
    there(bench, process, "waiting")
    process.kill()
    assert ended(bench, process) == -signal.SIGKILL
    assert_torn_down(json.loads((bench.folder / "torn-down.json").read_text()))


def test_a_worker_that_is_told_to_end_is_not_replaced_and_nobody_calls_its_test_red(bench: Bench) -> None:
    process = start(bench, own_fixture_in_worker(bench))
    there(bench, process, "waiting")
    os.kill(child_of(process), signal.SIGTERM)
    assert ended(bench, process) == pytest.ExitCode.INTERRUPTED
    assert_own_fixture_ended(bench)
    assert "replacing crashed worker" not in (bench.folder / "output").read_text()
