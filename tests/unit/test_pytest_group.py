"""The process group of the tests: output in two places, a time limit, and nothing that outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from roboticks_tasks.lifecycle.support import group
from roboticks_tasks.lifecycle.support.group import run_group
from roboticks_tasks.waiting import Deadline
from tests.conditions import until


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "INTERRUPT_GRACE", 0.3)


def run(script: str, folder: Path, *, seconds: float = 30, **environment: str) -> int | None:
    """Run a shell script in `folder`."""
    return run_group(
        ["sh", "-c", f"cd {folder}; {script}"],
        environment={**os.environ, **environment},
        log_file=folder / "log",
        pid_file=folder / "pid",
        deadline=Deadline(seconds),
    )


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def pid_in(path: Path) -> int:
    until(lambda: path.exists() and path.read_text().endswith("\n"), f"{path.name} is written")
    return int(path.read_text())


@pytest.mark.parametrize("code", [0, 1, 5, 255])
def test_the_exit_code_is_that_of_the_program(tmp_path: Path, code: int) -> None:
    assert run(f"exit {code}", tmp_path) == code


def test_a_program_that_a_signal_ended_says_which(tmp_path: Path) -> None:
    assert run("kill -SEGV $$", tmp_path) == -signal.SIGSEGV


def test_output_and_errors_go_to_our_output_and_to_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("echo out; echo err >&2", tmp_path) == 0
    assert capfd.readouterr().out == "out\nerr\n"
    assert (tmp_path / "log").read_text() == "out\nerr\n"


def test_what_was_printed_before_stands_before_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    print("ours, still in the buffer", end=";")
    run("echo theirs", tmp_path)
    assert capfd.readouterr().out == "ours, still in the buffer;theirs\n"


def test_not_a_byte_of_much_output_is_lost(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("seq 200000", tmp_path) == 0
    expected = "".join(f"{number}\n" for number in range(1, 200_001))
    assert (tmp_path / "log").read_text() == expected
    assert capfd.readouterr().out == expected


def test_a_program_that_closes_its_output_is_waited_for(tmp_path: Path) -> None:
    assert run("exec >&- 2>&-; sleep 0.05; exit 3", tmp_path) == 3


def test_it_has_the_environment_that_was_given_and_no_input(tmp_path: Path) -> None:
    assert run('cat; [ "$MARK" = "a b" ]', tmp_path, MARK="a b") == 0


@pytest.mark.parametrize(("name", "code"), [("nowhere", 127), ("data", 126)])
def test_a_program_that_cannot_be_started_ends_as_in_a_shell(tmp_path: Path, name: str, code: int) -> None:
    (tmp_path / "data").write_text("not executable")
    log, pid = tmp_path / "log", tmp_path / "pid"
    argv = [str(tmp_path / name)]
    assert run_group(argv, environment={}, deadline=Deadline(5), log_file=log, pid_file=pid) == code


def test_a_variable_whose_name_no_shell_knows_is_handed_on(tmp_path: Path) -> None:
    script = "import os, sys; sys.exit(int(os.environ['my-code']))"
    environment, argv = {**os.environ, "my-code": "7"}, [sys.executable, "-c", script]
    log, pid = tmp_path / "log", tmp_path / "pid"
    assert run_group(argv, environment=environment, deadline=Deadline(30), log_file=log, pid_file=pid) == 7


KILLED_AT_THE_START = """
import os, signal, sys
from pathlib import Path
from roboticks_tasks import processes
from roboticks_tasks.lifecycle.support import group
from roboticks_tasks.waiting import Deadline
processes.start_time = lambda pid: os.kill(os.getpid(), signal.SIGKILL)
files = {"log_file": Path("log"), "pid_file": Path("pid")}
group.run_group(["sh", "-c", "touch ran; exec sleep 60"], environment=os.environ, deadline=Deadline(60), **files)
"""


def test_a_program_that_no_pid_file_names_yet_does_not_run(tmp_path: Path) -> None:
    environment = {**os.environ, "MARK": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", KILLED_AT_THE_START], cwd=tmp_path, env=environment)
    assert done.returncode == -signal.SIGKILL
    until(lambda: not carriers(f"MARK={tmp_path}"), "the program's process is gone")
    assert not (tmp_path / "ran").exists()


def carriers(variable: str) -> list[str]:
    """The processes that have a variable."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if variable.encode() in entry.read_bytes().split(b"\0"):
                found.append(entry.parent.name)
    return found


def test_at_the_limit_it_is_interrupted_and_may_clean_up(tmp_path: Path) -> None:
    script = "trap 'echo cleaned; exit 2' INT; echo ready; while :; do sleep 0.01; done"
    assert run(script, tmp_path, seconds=1) is None
    assert (tmp_path / "log").read_text() == "ready\ncleaned\n"


def test_who_does_not_listen_at_the_limit_is_killed_with_all_its_children(tmp_path: Path) -> None:
    script = "trap '' INT TERM; echo $$ >own; sh -c 'echo $$ >child; while :; do sleep 0.01; done'"
    assert run(script, tmp_path, seconds=1) is None
    assert not runs(pid_in(tmp_path / "own"))
    child = pid_in(tmp_path / "child")
    until(lambda: not runs(child), "the child is gone")


def test_children_that_it_left_in_the_background_are_killed(tmp_path: Path) -> None:
    assert run("sleep 60 & echo $! >child; exit 1", tmp_path) == 1
    child = pid_in(tmp_path / "child")
    until(lambda: not runs(child), "the child is gone")


def test_a_daemon_that_holds_the_output_open_keeps_nobody_waiting(tmp_path: Path) -> None:
    # It has left the group, so it is not ours to kill; but the run must not wait for it until the limit.
    script = "setsid sh -c 'echo $$ >daemon; exec sleep 60' & until [ -s daemon ]; do :; done"
    code = run(script, tmp_path, seconds=30)
    daemon = pid_in(tmp_path / "daemon")
    try:
        assert code == 0  # None at the limit
        assert runs(daemon)
    finally:
        with suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGKILL)


def test_a_log_that_takes_no_more_does_not_end_the_tests(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").symlink_to("/dev/full")
    assert run("echo one; sleep 0.05; echo two", tmp_path) == 0
    assert capfd.readouterr().out == "one\ntwo\n"


OURSELVES = """
import os, sys
from pathlib import Path
from roboticks_tasks.errors import Cancelled
from roboticks_tasks.lifecycle.support import group
from roboticks_tasks.signals import handled
from roboticks_tasks.waiting import Deadline
group.INTERRUPT_GRACE = float(sys.argv[2])
with handled() as interruption:
    try:
        files = {"log_file": Path("log"), "pid_file": Path("pid")}
        with interruption.raising():
            group.run_group(["sh", "-c", sys.argv[1]], environment=os.environ, deadline=Deadline(60), **files)
    except Cancelled as error:
        sys.exit(error.exit_code)
"""


def cancel(script: str, folder: Path, *, grace: float) -> str:
    """Run a script in a process that is then told to end; return its output."""
    command = [sys.executable, "-c", OURSELVES, script, str(grace)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        output = process.stdout.read()
        assert process.wait() == 143
    return output


def test_a_cancelled_run_interrupts_the_tests_and_lets_them_clean_up(tmp_path: Path) -> None:
    script = "trap 'echo cleaned; exit 2' INT; echo $$ >own; echo ready; while :; do sleep 0.01; done"
    assert cancel(script, tmp_path, grace=10) == "cleaned\n"
    assert not runs(pid_in(tmp_path / "own"))


def test_a_cancelled_run_kills_tests_that_do_not_listen(tmp_path: Path) -> None:
    script = "trap '' INT TERM; sleep 60 & echo $! >child; echo $$ >own; echo ready; while :; do sleep 0.01; done"
    assert cancel(script, tmp_path, grace=0.1) == ""
    assert not runs(pid_in(tmp_path / "own"))
    child = pid_in(tmp_path / "child")
    until(lambda: not runs(child), "the child is gone")


def test_a_second_signal_does_not_leave_the_tests_behind(tmp_path: Path) -> None:
    insist = "while :; do kill -TERM $PPID; sleep 0.01; done"
    script = f"trap '{insist}' INT; echo $$ >own; echo ready; while :; do sleep 0.01; done"
    assert cancel(script, tmp_path, grace=0.2) == ""
    assert not runs(pid_in(tmp_path / "own"))


def test_the_tests_of_a_run_that_was_killed_can_be_stopped_by_another_process(tmp_path: Path) -> None:
    script = "echo $$ >own; (trap '' INT TERM; echo $$ >deep; exec sleep 60) & echo ready; exec sleep 60"
    command = [sys.executable, "-c", OURSELVES, script, "10"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
        process.wait()
        own = pid_in(tmp_path / "own")
        assert runs(own)
        assert group.stop_group(tmp_path / "pid") == f"stopped (pid {own})"
        assert not runs(own)
    assert group.stop_group(tmp_path / "pid") == "none were running"


def test_a_pid_file_that_names_another_process_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(f"{os.getpid()} 1\n")
    assert group.stop_group(tmp_path / "pid") == "none were running"


def test_a_signal_in_the_moment_of_the_start_leaves_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("exec sleep 60", tmp_path)
    assert not runs(started[0].pid)
    assert not (tmp_path / "pid").exists()


def test_the_log_of_tests_that_were_killed_in_a_flood_is_put_together(tmp_path: Path) -> None:
    path = tmp_path / "pytest.log"
    flood = f"""
import os
from pathlib import Path
from roboticks_tasks.bounded import BoundedLog
log = BoundedLog(Path({str(path)!r}), limit=4000)
for number in range(1000):
    log.write(b"line %d\\n" % number)
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", flood])
    assert not path.read_text().endswith("line 999\n")
    group.stop_group(tmp_path / "tests.pid")
    assert path.read_text().endswith("line 999\n")
    assert list(tmp_path.iterdir()) == [path]
