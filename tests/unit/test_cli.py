"""The command line: words become calls, errors become exit codes, and only a bug shows a traceback."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from roboticks_tasks import arguments, cli, commands, errors
from roboticks_tasks.board_commands import status
from roboticks_tasks.errors import Cancelled, RoboticksError
from roboticks_tasks.models import RunResult

Command = Callable[[argparse.Namespace], int]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[argparse.Namespace]:
    """Return what hil-test, the steps and status are called with; they end with 0."""
    seen: list[argparse.Namespace] = []

    def note(options: argparse.Namespace) -> int:
        seen.append(options)
        return 0

    for name in ("hil_test", "run_step", "run_teardown"):
        monkeypatch.setattr(commands, name, note)
    monkeypatch.setattr(status, "show_status", note)
    return seen


def ends_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """Return the exit code of a hil-test that raises `error`."""

    def fail(options: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(commands, "hil_test", fail)
    return cli.run(["hil-test"])


# --- words ------------------------------------------------------------------------------------------------------------


def test_without_words_the_profile_is_the_simulation(called: list[argparse.Namespace]) -> None:
    assert cli.run(["hil-test"]) == 0
    (options,) = called
    assert (options.profile, options.artifacts, options.rest, options.timeout_multiplier) == ("sim", None, [], 1.0)


def test_every_option_is_an_override_by_the_key_of_the_profile(called: list[argparse.Namespace]) -> None:
    words = (
        "hil-test --profile jetson --artifacts out --root /r --backend local --composition C --mode dev "
        "--test-command true --test-timeout 9 --timeout-multiplier 2"
    )
    cli.run(words.split())
    (options,) = called
    assert options.profile == "jetson"
    assert options.artifacts == Path("out")
    assert options.timeout_multiplier == 2.0
    profile = commands._load(argparse.Namespace(**{**vars(options), "profile": "runner"}))
    assert profile.device_manager.root == "/r"
    assert profile.backend == "local"
    assert (profile.deployment.composition, profile.deployment.mode) == ("C", "dev")
    assert (profile.tests.command, profile.tests.timeout) == ("true", 9.0)


def test_an_option_that_is_not_given_overrides_nothing(
    called: list[argparse.Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBOTICKS_COMPOSITION_MODE", "from-the-environment")
    cli.run(["hil-test", "--profile", "runner"])
    assert commands._load(called[0]).deployment.mode == "from-the-environment"


@pytest.mark.parametrize(
    ("words", "rest"),
    [
        (["hil-test", "--", "-k", "a or b", "--profile", "x"], ["-k", "a or b", "--profile", "x"]),
        (["hil-test", "--"], []),
        (["hil-test", "--", "a", "--", "b"], ["a", "--", "b"]),
        (["hil-test", "--profile", "sim", "--", "--help"], ["--help"]),
    ],
)
def test_what_stands_behind_the_dashes_is_the_test_commands(
    called: list[argparse.Namespace], words: list[str], rest: list[str]
) -> None:
    assert cli.run(words) == 0
    assert called[0].rest == rest
    assert called[0].profile == "sim"


@pytest.mark.parametrize("step", arguments.STEPS)
def test_each_step_is_a_command(called: list[argparse.Namespace], step: str) -> None:
    assert cli.run([step, "--profile", "runner", "--artifacts", "out"]) == 0
    assert (called[0].step, called[0].profile, called[0].artifacts) == (step, "runner", Path("out"))


def test_the_steps_of_the_command_line_are_those_of_the_lifecycle() -> None:
    assert ("ensure-binary", *commands.STEPS, "teardown") == tuple(arguments.STEPS)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["hil-test", "--nonsense"],
        ["hil-test", "--test-timeout", "soon"],
        *(["hil-test", f"--wait={word}"] for word in ("nan", "inf", "1e9", "-1", "soon")),
        ["status", "--root", "x"],
    ],
)
def test_a_usage_error_ends_with_2_and_shows_the_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert "usage: roboticks-tasks" in capsys.readouterr().err


def test_help_names_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*arguments.STEPS, "hil-test", "status", "profiles", "exit codes:"))


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    from roboticks_tasks import __version__

    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"roboticks-tasks {__version__}\n"


# --- exit codes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 17])
def test_the_code_of_the_command_is_the_code_of_the_process(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(commands, "hil_test", lambda options: code)
    with pytest.raises(SystemExit) as ended:
        cli.main(["hil-test"])
    assert ended.value.code == code


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ConfigError, 2),
        (errors.BinaryError, 10),
        (errors.LaunchError, 11),
        (errors.BackendError, 11),
        (errors.RegistrationError, 12),
        (errors.SessionError, 13),
        (errors.DeployError, 14),
        (errors.NoVerdictError, 15),
        (errors.NoTestsError, 16),
        (errors.BoardInUseError, 20),
    ],
)
def test_an_error_of_ours_is_one_sentence_and_its_own_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: type[RoboticksError], code: int
) -> None:
    assert ends_with(monkeypatch, kind("it broke", remedy="mend it")) == code
    assert capsys.readouterr().err == "roboticks-tasks: it broke; mend it\n"


def test_a_bug_ends_with_70_a_traceback_and_a_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends_with(monkeypatch, ZeroDivisionError("by zero")) == 70
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):\n")
    assert shown.splitlines()[-2:] == [
        "ZeroDivisionError: by zero",
        "roboticks-tasks: this is a bug, please report it with the lines above",
    ]


@pytest.mark.parametrize(
    ("error", "code"), [(Cancelled(signal.SIGTERM), 143), (Cancelled(signal.SIGINT), 130), (KeyboardInterrupt(), 130)]
)
def test_a_cancelled_command_ends_as_a_shell_expects(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    assert ends_with(monkeypatch, error) == code
    assert "Traceback" not in capsys.readouterr().err


def test_an_error_that_repeats_a_devices_words_cannot_reach_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends_with(monkeypatch, errors.LaunchError("it said \x1b]0;owned\x07"))
    assert capsys.readouterr().err.rstrip("\n").isprintable()


# --- the real process -------------------------------------------------------------------------------------------------


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "roboticks_tasks", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=30)


def run_unread(*words: str, cwd: Path) -> tuple[int, str]:
    """Run Python with a stdout that nobody reads; return its exit code and stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, *words]
    with os.fdopen(writer, "wb") as stdout:
        done = subprocess.run(command, cwd=cwd, stdout=stdout, stderr=subprocess.PIPE, env=environment, timeout=30)
    return done.returncode, done.stderr.decode()


def test_a_mistake_in_the_profile_is_one_line_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "board.toml").write_text("[tests]\ntimeuot = 3\n")
    done = run("hil-test", "--profile", "board.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "roboticks-tasks: profile board.toml, line 2: unknown key `tests.timeuot`; did you mean `timeout`?\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["board.toml"]


@pytest.mark.parametrize("step", ["launch-dm", "await-dsn", "deploy", "pytest-session"])
def test_a_step_without_a_run_says_how_to_begin(tmp_path: Path, step: str) -> None:
    done = run(step, cwd=tmp_path)
    assert done.returncode == 2
    assert "no run of profile 'sim' in test-output; start with `ensure-binary`" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_profiles_are_listed_with_a_broken_one_among_them(tmp_path: Path) -> None:
    (tmp_path / "hardware_profiles").mkdir()
    (tmp_path / "hardware_profiles" / "broken.toml").write_text("[")
    done = run("profiles", cwd=tmp_path)
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert {"broken", "runner", "sim"} <= set(lines)
    assert "cannot be used: profile hardware_profiles/broken.toml is not valid TOML" in lines["broken"]


def test_the_schema_is_printed_as_it_is_committed(tmp_path: Path) -> None:
    from roboticks_tasks.profiles.schema import profile_schema

    assert run("profiles", "schema", cwd=tmp_path).stdout == profile_schema()


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    assert run_unread("-m", "roboticks_tasks", "profiles", cwd=tmp_path) == (0, "")


@pytest.mark.parametrize("code", [0, 1, 17])
def test_the_code_of_a_run_does_not_depend_on_who_reads_its_summary(tmp_path: Path, code: int) -> None:
    result = RunResult(
        run_id="r", profile="sim", verdict="failed", exit_code=code, reason="x", started_at="", duration=0
    )
    program = f"""
from roboticks_tasks import cli
from roboticks_tasks.lifecycle import pipeline
from roboticks_tasks.models import *
pipeline.main = lambda *words, **more: {result!r}
cli.main(["hil-test"])
"""
    assert run_unread("-c", program, cwd=tmp_path) == (code, "")
