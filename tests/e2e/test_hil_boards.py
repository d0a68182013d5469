"""The whole run on boards: over ssh, and over a serial console that begins without power."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.pty_board import PtyBoard, running_board
from tests.contract.sshd import running_sshd
from tests.e2e.bench import Bench
from tests.e2e.board_profiles import manager, over_serial, over_ssh

ARTIFACTS = {
    "device-manager.log",
    "events.jsonl",
    "lifecycle.xml",
    "pytest.log",
    "pytest.xml",
    "result.json",
    "results.xml",
    "run.json",
    "test-run.log",
}


OWN_SUITE = """
[tests]
command = "pytest -q -p no:cacheprovider tests"
timeout = 60
"""
STAND_IN = Path(__file__).parents[1] / "contract" / "bindings"
NO_PLATFORM = "http://127.0.0.1:9"


@pytest.fixture
def suite(bench: Bench) -> str:
    """Tests that need no platform."""
    (bench.folder / "tests").mkdir()
    (bench.folder / "tests" / "test_device.py").write_text(
        "def test_device(device, session):\n    assert session.dsn == device.dsn\n"
    )
    return OWN_SUITE


@pytest.fixture(params=["ssh", "serial"])
def transport(request: pytest.FixtureRequest, bench: Bench, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """A board that can be reached in one way: a function that writes a profile of it and returns its name."""
    if request.param == "ssh":
        with running_sshd(tmp_path / "sshd") as sshd:
            yield lambda **parts: bench.profile("ssh", over_ssh(sshd, **parts)).stem
    else:
        with running_board(tmp_path / "pty", powered=False) as pty:
            yield lambda **parts: bench.profile("serial", over_serial(pty, **parts)).stem
            assert pty.phase == "off"


@pytest.fixture
def board(transport: Callable[..., str], tmp_path: Path) -> str:
    """A board with a simulated device manager on it."""
    return transport(device_manager=manager("simulated", tmp_path / "root"))


def test_the_main_job_passes_on_a_board_with_the_artifacts_of_sim(board: str, bench: Bench) -> None:
    done = bench.run("hil-test", "--profile", board)
    assert done.code == 0, done.err
    folder = bench.latest_of(board)
    assert {path.name for path in folder.iterdir()} >= ARTIFACTS
    result = bench.result(folder)
    assert result["verdict"] == "passed"
    assert result["tests"]["passed"] == 6
    assert all(part["ok"] for part in result["teardown"]["parts"]), result["teardown"]
    assert b"Registered with DSN" in (folder / "device-manager.log").read_bytes()


@pytest.mark.parametrize("transport", ["serial"], indirect=True)  # over ssh: test_interrupted_boards.py
def test_the_steps_one_by_one_do_what_the_main_job_does(board: str, bench: Bench) -> None:
    for step in ("ensure-binary", "launch-dm", "await-dsn", "await-session", "deploy", "pytest-session"):
        done = bench.run(step, "--profile", board)
        assert done.code == 0, (step, done.err)
    assert "device manager  running" in bench.run("status", "--profile", board).out
    done = bench.run("teardown", "--profile", board)
    assert done.code == 0, done.out
    assert bench.result(bench.latest_of(board))["verdict"] == "passed"
    assert bench.run("teardown", "--profile", board).code == 0


def test_the_runner_passes_on_a_board(board: str, bench: Bench, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "roboticks_tasks.runner"],
        cwd=bench.folder,
        env={**bench.environment, "ROBOTICKS_PROFILE": board, "ROBOTICKS_ROOT": str(tmp_path / "root")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    output = tmp_path / "root" / "test-output"
    assert {path.name for path in output.iterdir()} >= ARTIFACTS
    assert json.loads((output / "result.json").read_text())["verdict"] == "passed"


def test_the_main_job_passes_with_the_python_bindings(
    transport: Callable[..., str], bench: Bench, tmp_path: Path, suite: str
) -> None:
    root = tmp_path / "root"
    (root / "deployment" / "HelloWorldComposition").mkdir(parents=True)
    more = f'interpreter = "{sys.executable}"\nbindings = {{ path = ["{STAND_IN}"] }}'
    board = transport(device_manager=manager("bindings", root, more=more), suite=suite, backend=NO_PLATFORM)
    done = bench.run("hil-test", "--profile", board)
    assert done.code == 0, done.err
    result = bench.result(bench.latest_of(board))
    assert (result["verdict"], result["dsn"]) == ("passed", "WR-001")
    assert [each["name"] for each in result["compositions"]] == ["HelloWorldComposition"]


def microcontroller(pty: PtyBoard, root: Path, suite: str, *, power: str) -> str:
    """Return a profile of a board that has no shell; `power` is one more setting of its power."""
    switch = f'on = ["{pty.power_command}", "on"], off = ["{pty.power_command}", "off"]'
    return f"""
backend = "{NO_PLATFORM}"

[[boards]]
id = "mcu-1"
identity = {{ dsn = "MCU-001" }}
console = {{ port = "{pty.port}" }}
power = {{ {switch}, state = ["{pty.power_command}", "state"], {power} }}

[session]
request = "none"
{manager("firmware", root)}
{suite}"""


def test_the_main_job_passes_on_a_microcontroller_of_which_only_the_console_is_known(
    bench: Bench, tmp_path: Path, suite: str
) -> None:
    with running_board(tmp_path / "pty", powered=False, firmware="MCU-001") as pty:
        bench.profile("mcu", microcontroller(pty, tmp_path / "root", suite, power='safe = "off"'))
        done = bench.run("hil-test", "--profile", "mcu")
        assert done.code == 0, done.err
        assert pty.phase == "off"
    folder = bench.latest_of("mcu")
    result = bench.result(folder)
    assert (result["verdict"], result["dsn"]) == ("passed", "MCU-001")
    # Nothing of its boot is missing: the console was captured before it had power.
    log = (folder / "console.log").read_text()
    assert "U-Boot" in log or "boot" in log.lower()
    assert "Registered with DSN: MCU-001" in log
    assert "Registered with DSN: MCU-001" in (folder / "device-manager.log").read_text()


def test_the_wrong_microcontroller_is_an_error_of_the_bench(bench: Bench, tmp_path: Path, suite: str) -> None:
    with running_board(tmp_path / "pty", firmware="MCU-002") as pty:
        bench.profile("mcu", microcontroller(pty, tmp_path / "root", suite, power='at_start = "cycle"'))
        done = bench.run("hil-test", "--profile", "mcu")
    assert done.code == 12
    result = bench.result(bench.latest_of("mcu"))
    assert result["verdict"] == "bench-error"
    assert "the board is not mcu-1: it has registered as MCU-002, expected MCU-001" in result["reason"]
