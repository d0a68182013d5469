"""The whole run on boards: over ssh, and over a serial console that begins without power."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.pty_board import running_board
from tests.contract.sshd import running_sshd
from tests.e2e.bench import Bench
from tests.e2e.board_profiles import manager, over_serial, over_ssh

ARTIFACTS = {
    "device-manager.log",
    "events.jsonl",
    "pytest.log",
    "result.json",
    "results.xml",
    "run.json",
    "test-run.log",
}


@pytest.fixture(params=["ssh", "serial"])
def board(request: pytest.FixtureRequest, bench: Bench, tmp_path: Path) -> Iterator[str]:
    """A board and its profile of the same name."""
    kind: str = request.param
    device_manager = manager("simulated", tmp_path / "root")
    if kind == "ssh":
        with running_sshd(tmp_path / "sshd") as sshd:
            bench.profile(kind, over_ssh(sshd, device_manager=device_manager))
            yield kind
    else:
        with running_board(tmp_path / "pty", powered=False) as pty:
            bench.profile(kind, over_serial(pty, device_manager=device_manager))
            yield kind
            assert pty.phase == "off"


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
