"""The connection for a run's tunnels dies in the middle of it: one sentence, and the bench is to blame."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.conditions import until
from tests.contract.sshd import running_sshd
from tests.e2e.bench import Bench
from tests.e2e.board_profiles import manager, over_ssh

WAITS = """
import time
from pathlib import Path

def test_until_the_link_is_dead(device):
    Path({marker!r}).touch()
    while Path({marker!r}).exists():
        time.sleep(0.01)
"""
SUITE = """
[tests]
command = "pytest -q -p no:cacheprovider tests"
timeout = 60
"""


@pytest.mark.parametrize("step", ["await_dsn", "pytest_session"])
def test_a_link_that_dies_is_told_at_once_and_blames_the_bench(bench: Bench, tmp_path: Path, step: str) -> None:
    marker = bench.folder / "tests-run"
    (bench.folder / "tests").mkdir()
    (bench.folder / "tests" / "test_wait.py").write_text(WAITS.format(marker=str(marker)))
    with running_sshd(tmp_path / "sshd") as sshd:
        bench.profile("ssh", over_ssh(sshd, device_manager=manager("simulated", tmp_path / "root"), suite=SUITE))
        with bench.popen("hil-test", "--profile", "ssh", "--artifacts", "run") as run:
            events = bench.folder / "run" / "events.jsonl"
            if step == "await_dsn":
                until(lambda: events.exists() and '"launch_dm"' in events.read_text(), "the device manager starts", 60)
            else:
                until(marker.exists, "the tests run", 60)
            [link] = [pid for pid, words in bench.running().items() if " -M -N -S " in words]
            os.kill(link, signal.SIGKILL)
            marker.unlink(missing_ok=True)
            run.communicate(timeout=60)
    result = bench.result(bench.folder / "run")
    assert result["verdict"] == "bench-error"
    assert "the connection to 127.0.0.1 that carried the run's tunnels has ended" in result["reason"]
    assert result["steps"][-2]["name"] == step
