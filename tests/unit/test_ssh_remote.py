"""The marks around a command on the board."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from roboticks_tasks.targets.ssh.remote import Leader, by_stdin, framed, heard

BEGIN = b"mark 12 (a (shell) here) S 1 12 12 0 -1 4 5 6 7 8 9 10 11 12 13 14 15 0 4711 17 18\n"


@pytest.mark.parametrize(
    ("stderr", "code", "left"),
    [
        (BEGIN + b"mark 0\n", 0, b""),
        (BEGIN + b"words\nmark 255\n", 255, b"words\n"),
        (BEGIN + b"no newline at its endmark 3\n", 3, b"no newline at its end"),
        (BEGIN + b"mark 1\nof the command\nmark 0\n", 0, b"mark 1\nof the command\n"),
        (BEGIN + b"words\nmark 0\nof a child that stays\n", 0, b"words\nof a child that stays\n"),
        (b"bash: warning: no such locale\n" + BEGIN + b"words\nmark 0\n", 0, b"words\n"),
        (BEGIN + b"words\n", None, b"words\n"),
        (BEGIN + b"words\nmark 1", None, b"words\nmark 1"),
    ],
)
def test_the_marks_are_taken_out_of_stderr(stderr: bytes, code: int | None, left: bytes) -> None:
    said = heard(b"mark\nout", stderr, "mark")
    assert (said.exit_code, said.stdout, said.stderr) == (code, b"out", left)
    assert said.leader == Leader("12", "4711")


def test_without_begin_nothing_has_run() -> None:
    said = heard(b"Welcome\n", b"mux_client_request_session: session request failed\n", "mark")
    assert (said.leader, said.exit_code, said.stdout) == (None, None, b"")


def test_what_start_files_print_is_cut_off_and_a_second_mark_is_the_commands() -> None:
    assert heard(b"Welcome\nmark\nmark\nout", BEGIN, "mark").stdout == b"mark\nout"


@pytest.mark.parametrize("shell", [["sh"], ["bash"], ["dash"], ["zsh"], ["busybox", "sh"], ["ksh"]], ids=" ".join)
@pytest.mark.parametrize("long", [False, True])
def test_any_posix_shell_runs_a_command_between_the_marks(shell: list[str], long: bool) -> None:
    if shutil.which(shell[0]) is None:
        shell = ["sh"]  # which every machine has
    program = "printf '%s|' \"$@\"; cat; echo error >&2; exit 255"
    command, stdin = framed(["sh", "-c", program, "sh", "it's", "", "-n", "a\nb", "*"], "mark"), b"input"
    if long:
        command, stdin = by_stdin(command), command + stdin
    with subprocess.Popen([*shell, "-c", command], stdin=-1, stdout=-1, stderr=-1) as process:
        stdout, stderr = process.communicate(stdin)
    said = heard(stdout, stderr, "mark")
    assert (said.exit_code, said.stdout, said.stderr) == (255, b"it's||-n|a\nb|*|input", b"error\n")
    assert said.leader is not None
    assert said.leader.pid == str(process.pid)
    assert process.returncode == 0
