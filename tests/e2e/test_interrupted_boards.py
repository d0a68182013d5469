"""Runs on boards that a signal ends, and what they leave: the board is clean again, whoever comes next."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conditions import until
from tests.contract.pty_board import running_board
from tests.contract.sshd import Sshd, running_sshd
from tests.e2e.bench import Bench
from tests.e2e.board_profiles import manager, over_serial, over_ssh

SUITE = """
[tests]
command = "pytest -q -p no:cacheprovider tests"
timeout = 60
"""

WAITS = """
import time
from pathlib import Path

def test_it_runs_until_it_is_ended(device):
    Path({marker!r}).touch()
    while Path({marker!r}).exists():
        time.sleep(0.01)
"""


@pytest.fixture
def marker(bench: Bench) -> Path:
    """A file that the tests make when they run; they end when it is removed."""
    path = bench.folder / "tests-run"
    (bench.folder / "tests").mkdir()
    (bench.folder / "tests" / "test_wait.py").write_text(WAITS.format(marker=str(path)))
    return path


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with running_sshd(tmp_path / "sshd") as one:
        yield one


@pytest.fixture
def lab(bench: Bench, sshd: Sshd, marker: Path, tmp_path: Path) -> Bench:
    """A board behind ssh whose tests go on until they are ended."""
    bench.profile("lab", over_ssh(sshd, device_manager=manager("simulated", tmp_path / "root"), suite=SUITE))
    return bench


def begin(bench: Bench, marker: Path, *, profile: str, artifacts: str = "run") -> subprocess.Popen[str]:
    """Start a run and return it when its tests run."""
    run = bench.popen("hil-test", "--profile", profile, "--artifacts", artifacts)
    until(lambda: marker.exists() or run.poll() is not None, "the tests run", 60)
    assert run.poll() is None, run.communicate()
    return run


def end(run: subprocess.Popen[str], number: int) -> None:
    os.kill(run.pid, number)
    run.communicate(timeout=60)


def links(bench: Bench) -> list[int]:
    """Return the connections that carry tunnels."""
    return [pid for pid, words in bench.running().items() if " -M -N -S " in words]


def two_boards(bench: Bench, sshd: Sshd, tmp_path: Path) -> None:
    """Write a profile of two boards, which are one sshd under two names."""
    pinned = sshd.known_hosts.read_text()
    sshd.known_hosts.write_text(pinned + pinned.replace("board-1", "board-2"))
    boards = sshd.profile_text() + '\n[[boards]]\nid = "board-2"\nhost = "localhost"\n'
    bench.profile("lab", f'backend = "local"\n{boards}{manager("simulated", tmp_path / "{board}")}{SUITE}')


@pytest.mark.parametrize("kind", ["ssh", "serial"])
def test_status_leaves_a_run_its_board_and_sigterm_stops_the_device_manager_on_it(
    bench: Bench, marker: Path, tmp_path: Path, kind: str
) -> None:
    device_manager = manager("simulated", tmp_path / "root")
    with running_sshd(tmp_path / "sshd") as sshd, running_board(tmp_path / "pty", powered=False) as pty:
        if kind == "ssh":
            text = over_ssh(sshd, device_manager=device_manager, suite=SUITE)
        else:
            # Without the power switch nothing but the console can stop it.
            power = 'safe = "off", '
            text = over_serial(pty, device_manager=device_manager, suite=SUITE)
            assert power in text
            text = text.replace(power, "")
        bench.profile(kind, text)
        run = begin(bench, marker, profile=kind)
        if kind == "serial":
            status = json.loads(bench.run("status", "--profile", kind, "--artifacts", "run", "--json").out)
            assert status["device_manager_running"] is None
            assert status["problem"] == "left alone: a run has the board's console"
        end(run, signal.SIGTERM)
        assert run.returncode == 143
        parts = {part["name"]: part for part in bench.result(bench.folder / "run")["teardown"]["parts"]}
        assert all(part["ok"] for part in parts.values()), parts
        assert parts["device manager"]["detail"].startswith("stopped")
        if kind == "serial":
            subprocess.run([pty.power_command, "off"], check=True)


def test_the_run_after_a_killed_one_leaves_nothing_of_either(lab: Bench, marker: Path) -> None:
    end(begin(lab, marker, profile="lab"), signal.SIGKILL)
    assert links(lab)
    marker.unlink()
    second = begin(lab, marker, profile="lab", artifacts="second")
    assert len(links(lab)) == 1
    marker.unlink()
    second.communicate(timeout=60)
    assert second.returncode == 0
    assert not links(lab)


def test_teardown_closes_a_link_of_which_nothing_is_noted_anywhere(lab: Bench, marker: Path) -> None:
    end(begin(lab, marker, profile="lab"), signal.SIGKILL)
    [link] = links(lab)
    for folder in (lab.folder / "runtime").rglob("ssh-link-*"):
        (folder / "owner").write_text("1 1")  # it counts as a dead process's
    state = lab.folder / "run" / "run.json"
    known = json.loads(state.read_text())
    state.write_text(json.dumps(known | {"backend": None, "running": "ensure_backend"}))
    done = lab.run("teardown", "--profile", "lab", "--artifacts", "run")
    assert done.code == 0, done.out
    assert link not in lab.running()
    marker.unlink()


def test_teardown_without_the_runs_folder_keeps_the_log_and_stops_everything(lab: Bench, marker: Path) -> None:
    run = begin(lab, marker, profile="lab")
    os.kill(lab.state(lab.folder / "run")["guard"]["pid"], signal.SIGKILL)
    end(run, signal.SIGKILL)
    marker.unlink()
    (lab.folder / "run" / "run.json").unlink()
    done = lab.run("teardown", "--profile", "lab", "--artifacts", "elsewhere")
    assert done.code == 0, done.out
    [log] = lab.folder.glob("*/device-manager.log")  # the run's own folder, as long as anything knows it
    assert "Registered with DSN" in log.read_text()


def test_teardown_of_several_boards_leaves_the_one_alone_that_a_run_has(
    bench: Bench, sshd: Sshd, marker: Path, tmp_path: Path
) -> None:
    two_boards(bench, sshd, tmp_path)
    run = begin(bench, marker, profile="lab")
    done = bench.run("teardown", "--profile", "lab")
    assert done.code == 0, (done.out, done.err)
    assert "board board-1 is left alone: board 'board-1' of profile 'lab' is in use by run" in done.out
    assert "board board-2:" in done.out
    marker.unlink()
    run.communicate(timeout=60)
    assert run.returncode == 0


def test_a_step_that_names_another_board_than_the_runs_says_so(
    bench: Bench, sshd: Sshd, marker: Path, tmp_path: Path
) -> None:
    two_boards(bench, sshd, tmp_path)
    assert bench.run("ensure-binary", "--profile", "lab", "--board", "board-2").code == 0
    for step in ("launch-dm", "teardown"):
        done = bench.run(step, "--profile", "lab", variables={"ROBOTICKS_BOARD": "board-1"})
        assert done.code == 2
        assert "has board 'board-2', not 'board-1'; leave out --board and ROBOTICKS_BOARD" in done.sentence


def test_a_run_whose_board_is_not_in_the_profile_any_more_says_so(lab: Bench) -> None:
    assert lab.run("ensure-binary", "--profile", "lab").code == 0
    path = lab.folder / "hardware_profiles" / "lab.toml"
    path.write_text(path.read_text().replace('id = "board-1"', 'id = "board-9"'))
    done = lab.run("teardown", "--profile", "lab")
    assert done.code == 2
    assert "the run has board 'board-1', which profile 'lab' does not name any more; put it back" in done.sentence


def test_the_script_of_the_readme_deploys_to_the_runs_board_of_several(
    bench: Bench, sshd: Sshd, marker: Path, tmp_path: Path
) -> None:
    two_boards(bench, sshd, tmp_path)
    path = bench.folder / "hardware_profiles" / "lab.toml"
    path.write_text(f'{path.read_text()}\n[deployment]\npath = "package:roboticks_tasks.sim/hello_world/deployment"\n')
    for step in ("ensure-binary", "launch-dm", "await-dsn", "await-session"):
        done = bench.run(step, "--profile", "lab")
        assert done.code == 0, done.err
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    [script] = [part for part in readme.split("```") if part.startswith("python\n") and "rt.deploy" in part]
    script = script.removeprefix("python\n").replace('"sim"', '"lab"')
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=bench.folder,
        env=bench.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stdout == "HelloWorldComposition dev running\n", ended.stderr
    assert bench.run("teardown", "--profile", "lab").code == 0


@pytest.mark.parametrize("words", [("--profile", "no-such-profile"), ("--board", "no-such-board")])
def test_a_wrong_word_replaces_the_result_of_an_earlier_run(bench: Bench, words: tuple[str, ...]) -> None:
    (bench.folder / "out").mkdir()
    (bench.folder / "out" / "result.json").write_text('{"verdict": "passed"}')
    assert bench.run("hil-test", "--artifacts", "out", *words).code == 2
    result = bench.result(bench.folder / "out")
    assert (result["verdict"], result["exit_code"]) == ("config-error", 2)
    assert words[1] in result["reason"]


def test_commands_of_the_bench_that_hang_do_not_keep_teardown_from_its_end(bench: Bench, tmp_path: Path) -> None:
    hangs = tmp_path / "hangs"
    hangs.write_text("#!/bin/sh\nexec sleep 1000\n")
    hangs.chmod(0o755)
    bench.profile(
        "slow",
        f"""
backend = "http://127.0.0.1:9"

[[boards]]
id = "slow-1"
identity = {{ command = ["{hangs}"], equals = "1" }}
power = {{ on = ["{hangs}"], off = ["{hangs}"], state = ["{hangs}"], safe = "off" }}

[timeouts]
teardown = 2
{manager("simulated", tmp_path / "root")}""",
    )
    done = bench.run("teardown", "--profile", "slow")
    assert done.code == 17
    assert f"`power.state` of board slow-1 ({hangs}) did not end within 1 s" in done.err
    for name in ("device manager", "safe state"):
        [line] = [line for line in done.out.splitlines() if line.startswith(name)]
        assert "did not end within" in line


def test_the_steps_do_what_the_main_job_does_and_none_writes_to_another_board_than_the_profiles(
    bench: Bench, sshd: Sshd, marker: Path, tmp_path: Path
) -> None:
    who, root = tmp_path / "who", tmp_path / "root"
    (bench.folder / "tests" / "test_wait.py").write_text("def test_nothing(device):\n    assert device.dsn\n")
    board = sshd.profile_text() + f'identity = {{ command = ["cat", "{who}"], equals = "one" }}\n'
    bench.profile("lab", f'backend = "local"\n{board}{manager("simulated", root)}{SUITE}')

    def written() -> set[str]:
        ours = (path for name in ("install", "run", "deployment") for path in (root / name).rglob("*"))
        # The socket is the device manager's own, which makes it when it is about to come up.
        return {str(path) for path in ours if path.suffix != ".sock"}

    for step in ("ensure-binary", "launch-dm", "await-dsn", "await-session", "deploy", "pytest-session", "teardown"):
        if step == "teardown":
            status = bench.run("status", "--profile", "lab").out
            assert "device manager  running" in status, status
        before = written()
        who.write_text("two")
        done = bench.run(step, "--profile", "lab")
        assert (step, done.code) == (step, 17 if step == "teardown" else 22)
        assert "is not board-1: its answer to `identity.command` is two, expected one" in done.out + done.err
        assert written() == before
        who.write_text("one")
        done = bench.run(step, "--profile", "lab")
        assert done.code == 0, (step, done.out, done.err)
    assert bench.result(bench.latest_of("lab"))["verdict"] == "passed"
    assert bench.run("teardown", "--profile", "lab").code == 0
