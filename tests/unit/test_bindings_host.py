"""The program that hosts the Python bindings on a board: old interpreters, its commands, its log."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from roboticks_tasks.on_board import bindings_host
from roboticks_tasks.on_board.bindings_host import Job, RefusedError, State, UsageError, parse

FILE = Path(bindings_host.__file__)


def test_it_is_written_for_python_3_8() -> None:
    ast.parse(FILE.read_text(), feature_version=(3, 8))


def test_it_needs_nothing_but_the_standard_library() -> None:
    imports = [node for node in ast.walk(ast.parse(FILE.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def test_names_and_options_of_a_command_are_told_apart() -> None:
    assert parse(["start-composition", "Arm", "--mode", "dev"]) == ("start-composition", ["Arm"], {"--mode": "dev"})
    assert parse(["start-composition", "--mode=dev", "Arm"]) == ("start-composition", ["Arm"], {"--mode": "dev"})
    assert parse(["status"]) == ("status", [], {})


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["fly"], r"unknown command 'fly' \(known: status, "),
        ([""], "unknown command ''"),
        (["start-composition"], "start-composition takes 1 name, got 0"),
        (["status", "now"], "status takes no names, got 1"),
        (["start-session", "--colour", "red"], r"unknown option --colour \(known: --timeout\)"),
        (["start-composition", "Arm", "--mode"], "--mode needs a value"),
        (["start-session", "--timeout", "soon"], "--timeout must be a number of seconds, at most 30, got 'soon'"),
        (["start-session", "--timeout", "31"], "at most 30, got '31'"),
        (["start-session", "--timeout", "nan"], "at most 30, got 'nan'"),
    ],
)
def test_what_is_no_command_is_a_usage_error(words: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        parse(words)


def test_a_line_of_the_log_stays_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    bindings_host.log("INFO", "sessions", "one\ntwo")
    line = capfd.readouterr().err
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z INFO \[sessions\] one\\ntwo\n", line)


def test_a_job_that_nobody_does_is_given_up() -> None:
    with pytest.raises(RefusedError, match="a call of the bindings has not returned"):
        Job(lambda: None).result(0.01)


def test_what_a_job_raises_reaches_whoever_waits() -> None:
    job = Job(lambda: 1 // 0)
    job.run()
    with pytest.raises(ZeroDivisionError):
        job.result(1)


@pytest.mark.parametrize(("words", "code"), [([], 2), (["fly"], 2), (["ctl"], 2), (["ctl", "status"], 3)])
def test_the_command_line_says_by_its_code_what_is_wrong(tmp_path: Path, words: list[str], code: int) -> None:
    command = [sys.executable, "-I", "-S", str(FILE), *words]
    done = subprocess.run(command, env={"ROBOTICKS_ROOT": str(tmp_path)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("usage: " if code == 2 else "no device manager is running in ")


def test_a_state_file_that_cannot_be_written_ends_no_device_manager(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "folder" / "state.json"
    state = State(path)
    shutil.rmtree(path.parent)
    path.parent.touch()
    state.update(phase="registering")
    assert state.document["phase"] == "registering"
    assert re.search(
        rf"ERROR \[device-manager\] {path} cannot be written: (Not a directory|File exists)", capfd.readouterr().err
    )
    path.parent.unlink()
    state.update(dsn="42")
    assert json.loads(path.read_text())["phase"] == "registering"
