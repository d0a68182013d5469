"""`roboticks_tasks.runner`, as the platform's self-hosted runner calls it: seven variables, 0 or 1."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roboticks_tasks.backend.local import ensure_local, release_local
from roboticks_tasks.lifecycle.deployment import source_folder
from roboticks_tasks.profiles.values import LocalPlatform
from roboticks_tasks.sim.device_manager import install
from tests.e2e.bench import Bench

QUICK = """
[device_manager]
root = "/opt/roboticks"
[timeouts]
launch = 5
dsn = 1
session = 1
"""
"""What the runner profile says, with less patience: for stages that fail by waiting."""


@pytest.fixture
def robot(bench: Bench) -> Iterator[Bench]:
    """A machine with everything under ROBOTICKS_ROOT as the vendor installs it, and a platform to register with."""
    root = bench.folder / "opt"
    install(root)
    source = source_folder("package:roboticks_tasks.sim/hello_world/deployment")
    shutil.copytree(source, root / "deployment", ignore=shutil.ignore_patterns("__pycache__"))
    tests = bench.folder / "tests"
    tests.mkdir()
    (tests / "test_device.py").write_text("def test_device(device, session):\n    assert device.dsn == session.dsn\n")
    platform = ensure_local(LocalPlatform(directory=str(bench.folder / "platform")), run=bench.folder / "here")
    assert platform.secret_file is not None
    bench.environment |= {
        "ROBOTICKS_ROOT": str(root),
        "ROBOTICKS_API_URL": platform.url,
        "ROBOTICKS_PROJECT_SECRET": Path(platform.secret_file).read_text().strip(),
        "ROBOTICKS_COMPOSITION": "HelloWorldComposition",
        "ROBOTICKS_COMPOSITION_MODE": "dev",
    }
    yield bench
    release_local(bench.folder / "platform", run=bench.folder / "here")


def run_runner(bench: Bench, **variables: str) -> tuple[int, str]:
    """Run the runner; return its code and its log."""
    done = subprocess.run(
        [sys.executable, "-m", "roboticks_tasks.runner"],
        cwd=bench.folder,
        env={**bench.environment, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    log = bench.folder / "opt" / "test-output" / "test-run.log"
    return done.returncode, log.read_text() if log.exists() else done.stderr


def test_green_tests_give_0_and_the_documented_log(robot: Bench) -> None:
    code, log = run_runner(robot)
    assert code == 0, log
    order = [log.index(text) for text in ("ensure_binary", "Registered with DSN: SIM-", "deploy", "pytest_session")]
    assert order == sorted(order)
    assert "HelloWorldComposition (mode dev)" in log
    assert "HeartbeatComposition" not in log
    assert (robot.folder / "opt" / "test-output" / "results.xml").is_file()
    assert robot.result(robot.folder / "opt" / "test-output")["verdict"] == "passed"


def test_a_red_test_gives_1_and_prints_the_device_managers_log(robot: Bench) -> None:
    (robot.folder / "tests" / "test_red.py").write_text("def test_red():\n    assert False\n")
    code, log = run_runner(robot)
    assert code == 1
    assert "Test run failed: 1 of 2 tests failed" in log
    assert "device manager log" in log


def test_the_test_command_and_its_time_limit_are_the_variables(robot: Bench) -> None:
    code, log = run_runner(robot, ROBOTICKS_TEST_COMMAND="sleep 30", ROBOTICKS_TEST_TIMEOUT="1")
    assert code == 1
    assert "did not end within 1 s" in log


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ROBOTICKS_SIM_FAULT": "dies-at-start"}, "ended as soon as it was started"),
        ({"ROBOTICKS_PROJECT_SECRET": "wrong"}, "wrong project secret"),
        ({"ROBOTICKS_SIM_FAULT": "never-registers", "ROBOTICKS_PROFILE": "quick"}, "no DSN within 1 s"),
        ({"ROBOTICKS_SIM_FAULT": "no-session", "ROBOTICKS_PROFILE": "quick"}, "no session"),
        ({"ROBOTICKS_COMPOSITION": "Nope"}, "unknown composition 'Nope'"),
        ({"ROBOTICKS_TEST_COMMAND": "pytest no/such/folder"}, "without a verdict"),
        ({"ROBOTICKS_TEST_TIMEOUT": "soon"}, "ROBOTICKS_TEST_TIMEOUT"),
    ],
)
def test_each_failing_stage_gives_1_and_its_reason(robot: Bench, variables: dict[str, str], message: str) -> None:
    robot.profile("quick", QUICK)
    code, log = run_runner(robot, **variables)
    assert code == 1
    assert "Test run failed: " in log
    assert message in log


def test_a_missing_binary_gives_1_with_the_documented_message(robot: Bench) -> None:
    shutil.rmtree(robot.folder / "opt" / "install")
    code, log = run_runner(robot)
    assert code == 1
    assert "Device manager binary not found" in log


def test_a_missing_deployment_folder_is_only_a_warning(robot: Bench) -> None:
    shutil.rmtree(robot.folder / "opt" / "deployment")
    code, log = run_runner(robot)
    assert code == 0, log
    assert "Deployment path does not exist" in log


def test_an_output_folder_that_cannot_be_made_gives_1(bench: Bench) -> None:
    code, err = run_runner(bench, ROBOTICKS_ROOT="/dev/null/root")
    assert code == 1
    assert "Test run failed: " in err


STUCK = """
import atexit, sys, threading
from roboticks_tasks import runner
threading.Thread(target=threading.Event().wait, name="a native thread of the bindings").start()
atexit.register(lambda: print("nobody waits for this"))
sys.stdout.write("written before, without an end of line")
runner.main()
"""


def test_a_stuck_thread_cannot_hang_the_runner_and_nothing_written_is_lost(bench: Bench) -> None:
    root = bench.folder / "opt"
    done = subprocess.run(
        [sys.executable, "-c", STUCK],
        cwd=bench.folder,
        env={**bench.environment, "ROBOTICKS_ROOT": str(root)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert done.stdout == "written before, without an end of line"
    assert "Device manager binary not found" in done.stderr
    assert "Device manager binary not found" in (root / "test-output" / "test-run.log").read_text()
