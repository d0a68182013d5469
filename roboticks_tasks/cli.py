"""The command line: arguments become calls, errors become exit codes."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from roboticks_tasks import __version__
from roboticks_tasks.errors import EXIT_BUG, Cancelled, ConfigError, RoboticksError

EPILOG = """\
exit codes: 0 passed; 1 tests failed; 2 usage, profile or run state; 10-16 the step that failed (ensure-binary,
launch-dm, await-dsn, await-session, deploy, no verdict, no tests); 17 teardown incomplete; 18 report not written;
20 board in use; 70 a bug of ours; 130, 143 cancelled. The run's result.json has the verdict and the reason.
"""

STEPS = {
    "ensure-binary": "begin a run: have the device manager on the target, able to run there",
    "launch-dm": "start the device manager as a test device, and the local platform if need be",
    "await-dsn": "wait until the device has registered; print its serial number",
    "await-session": "ask for a session and wait until it is active; print its id",
    "deploy": "bring the deployment, start the compositions, wait until each one runs",
    "pytest-session": "run the tests; what follows -- goes to the test command",
    "teardown": "stop all that the run has started and collect its logs; 0 where nothing is left to do",
}
"""The steps of a run in their order: each works in a process of its own, on the run folder of the ones before."""

OVERRIDES = (
    ("--root", "device_manager.root", str),
    ("--backend", "backend", str),
    ("--composition", "deployment.composition", str),
    ("--mode", "deployment.mode", str),
    ("--test-command", "tests.command", str),
    ("--test-timeout", "tests.timeout", float),
)
"""Options that set a key of the profile."""


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run the command line `words` (default: sys.argv) and exit with its code."""
    sys.exit(run(sys.argv[1:] if words is None else words))


def run(words: Sequence[str]) -> int:
    """Run the command line `words` and return the exit code; an error of the user's is one sentence on stderr."""
    _repair_streams()
    words, rest = _split(words)
    options = parser().parse_args(words)
    options.rest = rest
    try:
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except RoboticksError as error:
        from roboticks_tasks.console import printable

        print(f"roboticks-tasks: {printable(str(error))}", file=sys.stderr)  # it may repeat what a device said
        return error.exit_code
    except Cancelled as error:
        print(f"roboticks-tasks: cancelled by {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except OSError as error:  # the machine's, the working directory has been removed say
        print(f"roboticks-tasks: {error}", file=sys.stderr)
        return ConfigError.exit_code
    except Exception:
        import traceback

        traceback.print_exc()
        print("roboticks-tasks: this is a bug, please report it with the lines above", file=sys.stderr)
        return EXIT_BUG


def _repair_streams() -> None:
    """Let output go nowhere where a stream was closed, and let no character be a reason to fail."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open to the end
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - likewise
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="roboticks-tasks",
        description="Hardware-in-the-loop tests of robots that run the Roboticks device manager.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"roboticks-tasks {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    whole = _add(commands, "hil-test", _hil_test, "run the whole lifecycle; what follows -- goes to the test command")
    _add_artifacts(whole, "folder for this run (default: a new one in test-output)")
    _add_overrides(whole)
    for name, text in STEPS.items():
        step = _add(commands, name, _teardown if name == "teardown" else _step, text)
        step.set_defaults(step=name)
        _add_artifacts(step, "the run's folder (default: the profile's latest in test-output)")
        _add_overrides(step)
    status = _add(commands, "status", _status, "show what a run has done and what is still running")
    _add_artifacts(status, "the run's folder (default: the profile's latest in test-output)")
    status.add_argument("--json", action="store_true", help="for programs")

    profiles = commands.add_parser("profiles", help="list the profiles, or print their JSON schema")
    profiles.set_defaults(command=_profiles)
    profiles.add_argument("what", nargs="?", choices=("list", "schema"), default="list")
    return top


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    command: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    sub = commands.add_parser(name, help=text, description=text[:1].upper() + text[1:] + ".")
    sub.set_defaults(command=command)
    sub.add_argument("--profile", default="sim", metavar="NAME", help="a profile's name or TOML file (default: sim)")
    return sub


def _add_artifacts(sub: argparse.ArgumentParser, text: str) -> None:
    sub.add_argument("--artifacts", type=_folder, metavar="DIR", help=text)


def _folder(word: str) -> Path:
    try:
        word.encode()
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError(f"{word!r} is not UTF-8") from error
    return Path(word)


def _add_overrides(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("instead of what the profile or a ROBOTICKS_* variable says")
    for option, key, kind in OVERRIDES:
        name = option[2:].upper().replace("-", "_")
        group.add_argument(option, dest=key, type=kind, metavar=name, help=f"`{key}` of the profile")
    group.add_argument(
        "--timeout-multiplier",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="multiply `timeouts` of the profile, for slow hardware",
    )


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part our own words from those behind --, which are the test command's."""
    if "--" not in words:
        return list(words), []
    at = list(words).index("--")
    return list(words[:at]), list(words[at + 1 :])


def _hil_test(options: argparse.Namespace) -> int:
    from roboticks_tasks.commands import hil_test

    return hil_test(options)


def _step(options: argparse.Namespace) -> int:
    from roboticks_tasks.commands import run_step

    return run_step(options)


def _teardown(options: argparse.Namespace) -> int:
    from roboticks_tasks.commands import run_teardown

    return run_teardown(options)


def _status(options: argparse.Namespace) -> int:
    from roboticks_tasks.commands import show_status

    return show_status(options)


def _profiles(options: argparse.Namespace) -> int:
    from roboticks_tasks.commands import show_profiles

    return show_profiles(options)
