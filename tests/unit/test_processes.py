"""Processes told apart by pid and start time, and stopped without ever meeting a stranger."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from roboticks_tasks import processes
from tests.conditions import until


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def shell(prelude: str) -> subprocess.Popen[bytes]:
    """Start a shell that waits for ever after `prelude`, and return it when that has been done."""
    script = f"{prelude}; echo; while :; do sleep 0.01; done"
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def born(pid: int) -> int:
    started = processes.start_time(pid)
    assert started is not None
    return started


def test_a_process_is_itself_and_no_other(sleeper: subprocess.Popen[bytes]) -> None:
    started = born(sleeper.pid)
    assert processes.is_alive(sleeper.pid, started)
    assert not processes.is_alive(sleeper.pid, started + 1)
    assert not processes.is_alive(sleeper.pid, 0)


def test_a_process_that_has_ended_is_gone_even_before_its_parent_notices(sleeper: subprocess.Popen[bytes]) -> None:
    started = born(sleeper.pid)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    assert not processes.is_alive(sleeper.pid, started)
    sleeper.wait()
    assert processes.start_time(sleeper.pid) is None


def test_a_name_with_spaces_and_parentheses_is_read_over() -> None:
    program = "open('/proc/self/comm', 'w').write(') Z 1 ('); import sys; print(flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert born(process.pid) >= born(os.getpid())
        process.kill()


def test_a_process_is_asked_to_end_and_may_say_goodbye() -> None:
    with shell("trap 'echo bye; exit' TERM") as process:
        assert processes.stop(process.pid, born(process.pid), grace=10)
        assert process.stdout is not None
        assert process.stdout.read() == b"bye\n"


def test_a_process_that_does_not_listen_is_killed() -> None:
    with shell("trap '' TERM") as process:
        started = born(process.pid)
        assert processes.stop(process.pid, started, grace=0.05)
        assert not processes.is_alive(process.pid, started)


def test_no_zombie_is_left_of_a_child_of_ours(sleeper: subprocess.Popen[bytes]) -> None:
    assert processes.stop(sleeper.pid, born(sleeper.pid))
    assert not Path(f"/proc/{sleeper.pid}").exists()


def test_a_stranger_with_the_same_pid_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    assert processes.stop(sleeper.pid, born(sleeper.pid) - 1)
    assert sleeper.poll() is None


def test_what_is_gone_counts_as_stopped(sleeper: subprocess.Popen[bytes]) -> None:
    started = born(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    assert processes.stop(sleeper.pid, started)


@contextmanager
def carrier(**variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with these variables in its environment."""
    process = subprocess.Popen(["sleep", "60"], env={**os.environ, **variables}, start_new_session=True)
    try:
        until(lambda: Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"sleep"), "it is executed")
        yield process
    finally:
        process.kill()
        process.wait()


def test_who_carries_a_runs_id_is_found_and_nobody_else(tmp_path: Path) -> None:
    run = f"run-{tmp_path}"
    with carrier(**{processes.COOKIE: run}) as ours, carrier(**{processes.COOKIE: f"{run}1"}), carrier(WORDS=run):
        assert processes.carriers(run) == [(ours.pid, processes.start_time(ours.pid))]


def test_a_sweep_stops_what_carries_the_runs_id_even_when_it_ignores_sigterm(tmp_path: Path) -> None:
    run = f"run-{tmp_path}"
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    deaf = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, processes.COOKIE: run}, stdout=subprocess.PIPE
    )
    try:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        with carrier(**{processes.COOKIE: run}) as other:
            assert processes.sweep(run, grace=0.1) == 2
            assert (other.wait(), deaf.wait()) == (-signal.SIGTERM, -signal.SIGKILL)
    finally:
        deaf.kill()
        deaf.communicate()


def test_a_sweep_spares_the_one_who_sweeps_and_its_ancestors(tmp_path: Path) -> None:
    run = f"run-{tmp_path}"
    sweep = f"from roboticks_tasks import processes; print(processes.sweep({run!r}))"
    # Another command after it, so that the shell does not become what it starts.
    outer = ["sh", "-c", '"$@"; echo alive', "sh", sys.executable, "-c", sweep]
    done = subprocess.run(outer, env={**os.environ, processes.COOKIE: run}, capture_output=True, text=True)
    assert done.stdout.split() == ["0", "alive"]


def test_what_is_started_in_a_marked_block_carries_the_runs_id() -> None:
    show = [sys.executable, "-c", f"import os; print(os.environ.get({processes.COOKIE!r}))"]
    with processes.marked("some-run"):
        assert subprocess.run(show, capture_output=True, text=True).stdout == "some-run\n"
    assert processes.COOKIE not in os.environ


def test_what_one_of_several_runs_of_a_process_starts_carries_no_id_that_may_be_anothers() -> None:
    with processes.counted(), processes.marked("one"):
        assert os.environ[processes.COOKIE] == "one"
        with processes.counted():
            assert processes.COOKIE not in os.environ
            with processes.marked("two"):
                assert processes.COOKIE not in os.environ
    with processes.counted(), processes.marked("three"):
        assert os.environ[processes.COOKIE] == "three"
    assert processes.COOKIE not in os.environ
