"""Detached processes on a target: started, recognised, stopped."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from roboticks_tasks.errors import TargetError
from roboticks_tasks.targets import Completed, Target
from roboticks_tasks.targets import detached as processes
from roboticks_tasks.targets.detached import Detached, find_detached, is_alive, parse_pid_file, spawn_detached, stop
from tests.conditions import until
from tests.contract.robot import Robot, running_robot, runs
from tests.contract.shells import AWKWARD_WORDS, SHELLS


@pytest.fixture(scope="module", params=list(SHELLS))
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with SHELLS[request.param]() as opened:
        yield opened


@pytest.fixture
def robot(target: Target, tmp_path: Path) -> Iterator[Robot]:
    with running_robot(target, tmp_path) as one:
        yield one


def test_a_detached_process_outlives_its_command_and_is_found_by_its_pid_file(robot: Robot) -> None:
    process = robot.start("exec sleep 60")
    assert is_alive(robot.target, process)
    assert find_detached(robot.target, robot.pid_file) == process
    assert parse_pid_file(Path(robot.pid_file).read_text()) == process
    assert os.getsid(process.pid) == process.pid


def test_it_is_there_under_its_pid_from_its_first_instruction(robot: Robot) -> None:
    process = robot.start("echo $$ >own; cat run/a.pid >seen; echo >done; exec sleep 60")
    robot.await_file("done")
    assert (robot.folder / "own").read_text() == f"{process.pid}\n"
    assert parse_pid_file((robot.folder / "seen").read_text()) == process


@pytest.mark.parametrize("word", AWKWARD_WORDS)
def test_its_arguments_and_environment_arrive_as_they_are(robot: Robot, word: str) -> None:
    program = 'printf "%s|%s|" "$1" "$WORD" >words; echo >done'
    robot.spawn(["sh", "-c", program, "sh", word], WORD=word)
    robot.await_file("done")
    assert (robot.folder / "words").read_text() == f"{word}|{word}|"


def test_its_environment_holds_nothing_of_ours(robot: Robot) -> None:
    robot.start("env >environment; echo >done", MINE="1")
    robot.await_file("done")
    names = {line.partition("=")[0] for line in (robot.folder / "environment").read_text().splitlines()}
    assert "MINE" in names
    assert not {"IDENTITY_FUNCTION", "PID_FILE"} & names


def test_it_has_no_open_files_but_its_log(robot: Robot) -> None:
    robot.start("exec sleep 60")
    (process,) = robot.started
    until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "the program runs")
    wanted = {"0": "/dev/null", "1": robot.log, "2": robot.log}

    def links() -> dict[str, str]:
        return {fd.name: str(fd.readlink()) for fd in Path(f"/proc/{process.pid}/fd").iterdir()}

    until(lambda: len(links()) == len(wanted), "it has read what a program reads of its locale")
    assert links() == wanted


def test_its_output_and_errors_go_to_the_log_which_begins_empty(robot: Robot) -> None:
    Path(robot.log).parent.mkdir()
    Path(robot.log).write_text("of an earlier run\n")
    robot.start("echo out; echo err >&2; echo >done")
    robot.await_file("done")
    assert Path(robot.log).read_text() == "out\nerr\n"


def test_a_secret_in_its_environment_is_in_no_argument_list(robot: Robot) -> None:
    secret = hashlib.sha256(os.urandom(8)).hexdigest()
    # The program looks around at the very moment it starts, and once more when all has settled.
    look = 'for each in /proc/[0-9]*/cmdline; do tr "\\0" " " <"$each"; echo; done 2>/dev/null'
    process = robot.start(f"{look} >cmdlines; echo $SECRET >mine; echo >done; exec sleep 60", SECRET=secret)
    robot.await_file("done")
    everything = [(robot.folder / "cmdlines").read_text()]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            everything.append(path.read_bytes().decode("utf-8", "replace"))
    assert (robot.folder / "mine").read_text() == f"{secret}\n"
    assert is_alive(robot.target, process)
    assert "cmdlines" in "".join(everything)
    assert not [each for each in everything if secret in each]


def test_it_is_recognised_as_dead_after_its_end(robot: Robot) -> None:
    process = robot.start("exec sleep 60")
    assert is_alive(robot.target, process)
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not is_alive(robot.target, process), "it is recognised as dead")
    assert find_detached(robot.target, robot.pid_file) is None


def test_a_program_that_does_not_exist_dies_with_its_reason_in_the_log(robot: Robot) -> None:
    process = robot.spawn(["/nowhere/device-manager"])
    until(lambda: not is_alive(robot.target, process), "it is dead")
    assert "not found" in Path(robot.log).read_text()


def test_another_process_with_the_pid_of_the_file_is_a_stranger(robot: Robot, tmp_path: Path) -> None:
    process = robot.start("exec sleep 60")
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        try:
            # The same boot, another start: 1 is long before anything of today.
            forged = Detached(stranger.pid, f"1-{process.identity.partition('-')[2]}")
            Path(robot.pid_file).write_text(f"{forged.pid} {forged.identity}\n")
            assert find_detached(robot.target, robot.pid_file) is None
            assert not is_alive(robot.target, forged)
            assert stop(robot.target, forged, grace=0.1) == "gone"
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_process_of_before_the_boot_is_a_stranger(robot: Robot) -> None:
    process = robot.start("exec sleep 60")
    started = process.identity.partition("-")[0]
    earlier = Detached(process.pid, f"{started}-00000000-0000-0000-0000-000000000000")
    assert not is_alive(robot.target, earlier)
    assert stop(robot.target, earlier, grace=0.1) == "gone"
    assert runs(process.pid)


class Container:
    """A target without a name for its boot, as some containers are."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command that finds no file with the boot's name."""
        words = [word.replace("random/boot_id", "random/nothing") for word in argv]
        stdin = stdin.replace(b"random/boot_id", b"random/nothing")
        return self._target.run(words, stdin=stdin, timeout=timeout, repeatable=repeatable)


def test_where_a_boot_has_no_name_a_process_is_known_by_when_it_started(target: Target, tmp_path: Path) -> None:
    robot = Robot(Container(target), tmp_path)
    process = robot.start("sleep 60 & echo $! >child; wait")
    child = int(robot.await_file("child"))
    assert find_detached(robot.target, robot.pid_file) == process
    assert is_alive(robot.target, process)
    assert robot.look(process, patience=0).alive
    assert not is_alive(robot.target, process._replace(identity=f"1{process.identity}"))
    assert stop(robot.target, process) == "stopped"
    until(lambda: not runs(child), "its child has ended")


class Hiding:
    """A target whose /proc shows no processes that somebody asks for by number, as with `hidepid`."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command that finds no folder of a process."""
        words = [re.sub(r"/proc/\$(1|pid)/", "/proc/hidden/", word) for word in argv]
        stdin = re.sub(rb"/proc/\$(1|pid)/", b"/proc/hidden/", stdin)
        return self._target.run(words, stdin=stdin, timeout=timeout, repeatable=repeatable)


def test_a_process_that_is_hidden_is_not_taken_for_gone(robot: Robot) -> None:
    process = robot.start("exec sleep 60")
    hiding = Hiding(robot.target)
    for look in (
        lambda: stop(hiding, process, grace=0.1),
        lambda: is_alive(hiding, process),
        lambda: find_detached(hiding, robot.pid_file),
    ):
        with pytest.raises(TargetError, match=f"process {process.pid} runs, but cannot be seen in /proc.*hidepid"):
            look()
    assert runs(process.pid)
    assert stop(robot.target, process) == "stopped"
    ended = process._replace(pid=(1 << 22) + 1)  # no process has a number above the kernel's limit
    assert stop(hiding, ended) == "gone"
    assert not is_alive(hiding, ended)


@pytest.mark.parametrize("text", ["0 1-2", "-1 1-2", "00 1-2", "1x 1-2"])
def test_a_damaged_pid_file_hides_nobody(robot: Robot, text: str) -> None:
    Path(robot.pid_file).parent.mkdir()
    Path(robot.pid_file).write_text(f"{text}\n")
    assert find_detached(Hiding(robot.target), robot.pid_file) is None


def test_what_an_earlier_one_has_left_is_removed_before_a_start(target: Target, tmp_path: Path) -> None:
    left = tmp_path / "state.json"
    left.write_text("old")
    with pytest.raises(TargetError):
        spawn_detached(target, ["true"], environment={}, log="/proc/x", pid_file=str(tmp_path / "pid"), stale=str(left))
    assert not left.exists()


@pytest.mark.parametrize("text", ["", "\n", "12", "12\n", "999999999 \n"])
def test_a_pid_file_that_is_cut_off_names_nobody(robot: Robot, text: str) -> None:
    Path(robot.pid_file).parent.mkdir()
    Path(robot.pid_file).write_text(text)
    assert find_detached(robot.target, robot.pid_file) is None


@pytest.mark.parametrize(
    "text", ["", "12", "12 ", "twelve 34-5", "-12 34-5", "0 34-5", "\u0661\u0662 3-4", "9" * 5000 + " 3-4"]
)
def test_what_is_no_pid_file_is_said_to_be_none(text: str) -> None:
    with pytest.raises(TargetError, match="not a pid file of ours"):
        parse_pid_file(text)


def test_a_log_that_cannot_be_written_is_an_error_and_starts_nothing(robot: Robot) -> None:
    Path(robot.log).mkdir(parents=True)
    with pytest.raises(TargetError, match=r"sh could not be started: .*/a\.log cannot be written"):
        robot.start("exec sleep 60")
    assert not Path(robot.pid_file).exists()


def test_a_folder_that_cannot_be_made_is_an_error(target: Target, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    robot = Robot(target, tmp_path / "file")
    with pytest.raises(TargetError, match=r"sh could not be started: .*(Not a directory|File exists)"):
        robot.start("exec sleep 60")


def test_a_process_that_listens_is_stopped(robot: Robot) -> None:
    process = robot.start("trap 'echo bye >bye; exit' TERM; echo >done; while :; do sleep 0.01; done")
    robot.await_file("done")
    assert stop(robot.target, process, grace=10) == "stopped"
    assert (robot.folder / "bye").read_text() == "bye\n"
    assert not runs(process.pid)


def test_a_process_that_does_not_listen_is_killed(robot: Robot) -> None:
    process = robot.start("trap '' TERM; echo >done; while :; do sleep 0.01; done")
    robot.await_file("done")
    assert stop(robot.target, process, grace=0.1) == "killed"
    assert not runs(process.pid)


def test_stopping_twice_finds_it_gone(robot: Robot) -> None:
    process = robot.start("exec sleep 60")
    assert stop(robot.target, process) == "stopped"
    assert stop(robot.target, process) == "gone"


@pytest.mark.parametrize("leader", ["stopped", "killed", "gone"])
def test_the_members_of_its_group_die_with_it(robot: Robot, leader: str) -> None:
    trap = "trap '' TERM;" if leader == "killed" else ""
    member = "sh -c \"trap '' TERM; while :; do sleep 0.01; done\""
    process = robot.start(f"{member} & echo $! >member; {trap} echo >done; while :; do sleep 0.01; done")
    robot.await_file("done")
    pid = int((robot.folder / "member").read_text())
    if leader == "gone":
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: not runs(process.pid), "the leader is dead")
    assert stop(robot.target, process, grace=0.2) == leader
    until(lambda: not runs(pid), "the member is dead")


def test_the_members_die_even_while_nobody_has_reaped_the_leader(robot: Robot) -> None:
    # In a container the first process often reaps nobody: the dead leader stays a zombie. Here we are its parent.
    script = "sleep 60 & echo $! >member; echo >done; exec sleep 60"
    with subprocess.Popen(["sh", "-c", script], cwd=robot.folder, start_new_session=True) as leader:
        robot.await_file("done")
        member = int((robot.folder / "member").read_text())
        identity = robot.target.run(["sh", "-c", f"{processes.IDENTITY} identity {leader.pid}"]).text
        assert stop(robot.target, Detached(leader.pid, identity)) == "stopped"
        assert Path(f"/proc/{leader.pid}").exists()
        try:
            until(lambda: not runs(member), "the member is dead")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(leader.pid, signal.SIGKILL)
