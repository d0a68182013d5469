"""Runs that want the same boards at the same time."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conditions import until
from tests.contract.sshd import ALIAS, Sshd, running_sshd
from tests.e2e.bench import Bench
from tests.e2e.board_profiles import manager

SUITE = """
[tests]
command = "pytest -q -p no:cacheprovider tests"
timeout = 60
"""

WAITS = """
import time
from pathlib import Path

def test_it_runs_until_it_is_told_to_end(device):
    here = Path({folder!r})
    (here / device.dsn).touch()
    end = time.monotonic() + 50
    while not (here / "end").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
"""


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with running_sshd(tmp_path / "sshd") as one:
        yield one


@pytest.fixture
def lab(bench: Bench, sshd: Sshd, tmp_path: Path) -> Bench:
    """Two boards in one profile, and tests that go on until they are told to end."""
    (bench.folder / "tests").mkdir()
    (bench.folder / "tests" / "test_wait.py").write_text(WAITS.format(folder=str(tmp_path)))
    # One sshd under two names is two boards.
    pinned = sshd.known_hosts.read_text()
    sshd.known_hosts.write_text(pinned + pinned.replace(ALIAS, "board-2"))
    text = sshd.profile_text() + '\n[[boards]]\nid = "board-2"\nhost = "localhost"\n'
    bench.profile("lab", f'backend = "local"\n{text}{manager("simulated", tmp_path / "{board}")}{SUITE}')
    return bench


def running_tests(folder: Path) -> int:
    """Count the runs whose tests have begun."""
    return len(list(folder.glob("SIM-*")))


def waiting_line(run: subprocess.Popen[str]) -> str:
    """Read what a run says until it says for whom it waits."""
    assert run.stderr is not None
    return next(line for line in run.stderr if "waiting up to" in line)


def test_two_runs_have_the_two_boards_of_a_profile_at_the_same_time(lab: Bench, tmp_path: Path) -> None:
    runs = [lab.popen("hil-test", "--profile", "lab", "--artifacts", f"run-{n}") for n in (1, 2)]
    until(lambda: running_tests(tmp_path) == 2, "both run their tests", 60)
    status = lab.run("status", "--profile", "lab").out
    assert "board board-1: held by run" in status
    assert "board board-2: held by run" in status
    third = lab.run("hil-test", "--profile", "lab")
    assert third.code == 20
    for name in ("run-1", "run-2"):
        assert f"in use by run {lab.folder / name}, pid " in third.err
    (tmp_path / "end").touch()
    for run in runs:
        out, err = run.communicate(timeout=60)
        assert run.returncode == 0, (out, err)
    boards = {lab.state(lab.folder / name)["board_id"] for name in ("run-1", "run-2")}
    assert boards == {"board-1", "board-2"}


def test_a_run_waits_for_the_board_that_it_wants(lab: Bench, tmp_path: Path) -> None:
    first = lab.popen("hil-test", "--profile", "lab", "--board", "board-1", "--artifacts", "run-1")
    until(lambda: running_tests(tmp_path) == 1, "the first runs its tests", 60)
    second = lab.popen("hil-test", "--profile", "lab", "--board", "board-1", "--wait", "50", "--artifacts", "run-2")
    assert f"in use by run {lab.folder / 'run-1'}, pid {first.pid}" in waiting_line(second)
    (tmp_path / "end").touch()
    for run in (first, second):
        out, err = run.communicate(timeout=60)
        assert run.returncode == 0, (out, err)


def test_the_board_of_a_run_that_was_killed_is_had_as_soon_as_its_guard_has_made_it_safe(
    lab: Bench, tmp_path: Path
) -> None:
    first = lab.popen("hil-test", "--profile", "lab", "--board", "board-1", "--artifacts", "run-1")
    until(lambda: running_tests(tmp_path) == 1, "its tests run", 60)
    first.kill()
    first.communicate()
    (tmp_path / "end").touch()
    second = lab.run("hil-test", "--profile", "lab", "--board", "board-1", "--artifacts", "run-2")
    assert second.code == 0, second.err
    assert lab.run("teardown", "--profile", "lab", "--artifacts", "run-1").code == 0


def test_a_signal_ends_the_wait_for_a_board_and_says_so_in_the_result(lab: Bench, tmp_path: Path) -> None:
    first = lab.popen("hil-test", "--profile", "lab", "--board", "board-1", "--artifacts", "run-1")
    until(lambda: running_tests(tmp_path) == 1, "the first runs its tests", 60)
    second = lab.popen("hil-test", "--profile", "lab", "--board", "board-1", "--wait", "50", "--artifacts", "run-2")
    waiting_line(second)
    os.kill(second.pid, signal.SIGTERM)
    second.communicate(timeout=20)
    assert second.returncode == 143
    assert lab.result(lab.folder / "run-2")["verdict"] == "cancelled"
    (tmp_path / "end").touch()
    first.communicate(timeout=60)
    assert first.returncode == 0


def test_no_secret_is_in_any_argument_list_while_a_run_is_on(lab: Bench, tmp_path: Path) -> None:
    run = lab.popen("hil-test", "--profile", "lab", "--board", "board-1", "--artifacts", "run-1")
    seen: set[bytes] = set()

    def look() -> bool:
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                seen.add(entry.read_bytes())
        return running_tests(tmp_path) > 0

    until(look, "its tests run", 60)
    (tmp_path / "end").touch()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, (out, err)
    platform = lab.folder / ".roboticks" / "platform"
    secrets = [(platform / name).read_bytes().strip() for name in ("project-secret", "api-key")]
    assert any(b"ssh" in words and b"StrictHostKeyChecking=yes" in words for words in seen)
    for words in seen:
        assert all(word.endswith(b"=yes") for word in words.split(b"\0") if word.startswith(b"StrictHostKeyChecking"))
        assert not any(secret in words for secret in secrets), words


def test_a_board_that_fails_again_and_again_is_parked_until_doctor_finds_it_well(bench: Bench, sshd: Sshd) -> None:
    text = f'backend = "local"\n{sshd.profile_text()}{manager("simulated", bench.folder / "root")}{SUITE}'
    bench.profile("lab", f"{text}\n[quarantine]\nfailures = 2\n")
    sshd.stop()
    for _ in range(2):
        assert bench.run("hil-test", "--profile", "lab").code == 22
    refused = bench.run("hil-test", "--profile", "lab")
    assert refused.code == 21
    assert "refuses connections" in refused.sentence
    assert f"roboticks-tasks doctor --profile lab --board {ALIAS}" in refused.sentence
    assert "in quarantine" in bench.run("status", "--profile", "lab").out
    assert bench.run("doctor", "--profile", "lab").code == 22
    sshd.start()
    healthy = bench.run("doctor", "--profile", "lab")
    assert healthy.code == 0, healthy.out
    assert "in quarantine" not in bench.run("status", "--profile", "lab").out
    assert bench.run("teardown", "--profile", "lab").code == 0
