"""The command line: arguments become calls, errors become exit codes."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from roboticks_tasks.arguments import parser
from roboticks_tasks.errors import EXIT_BUG, Cancelled, ConfigError, RoboticksError
from roboticks_tasks.signals import ended_by_ctrl_c, ignore


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run the command line `words` (default: sys.argv) and exit with its code."""
    code = run(sys.argv[1:] if words is None else words)
    if words is None:  # the process is ours, and its code is known: a signal while Python ends must not change it
        ignore()
    sys.exit(code)


def run(words: Sequence[str]) -> int:
    """Run the command line `words` and return the exit code; an error of the user's is one sentence on stderr."""
    _repair_streams()
    words, rest = _split(words)
    options = parser().parse_args(words)
    options.rest = rest
    try:
        return _command(options)
    except RoboticksError as error:
        print(f"roboticks-tasks: {_public(str(error), options)}", file=sys.stderr)
        return error.exit_code
    except Cancelled as error:
        print(f"roboticks-tasks: cancelled by {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except OSError as error:  # the machine's, the working directory has been removed say
        print(f"roboticks-tasks: {_public(str(error), options)}", file=sys.stderr)
        return ConfigError.exit_code
    except Exception:
        import traceback

        print(_public(traceback.format_exc(), options), end="", file=sys.stderr)
        print("roboticks-tasks: this is a bug, please report it with the lines above", file=sys.stderr)
        return EXIT_BUG


def _public(text: str, options: argparse.Namespace) -> str:
    """Return a text that may repeat what a device, a tool or a profile said, without secrets and control characters.

    The profile may be what is wrong: it is loaded once more, only to know what is secret in it.
    """
    from roboticks_tasks.backend.secrets import redactor_of
    from roboticks_tasks.console import printable
    from roboticks_tasks.profiles import load_profile
    from roboticks_tasks.reporting.ci_log import fit_for_log

    profile = None
    with suppress(Exception):
        profile = load_profile(options.profile)
    return fit_for_log(printable(redactor_of(profile).text(text), keep="\n\t"), os.environ)


def _repair_streams() -> None:
    """Let output go nowhere where a stream was closed, and let no character be a reason to fail."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open to the end
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - likewise
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _command(options: argparse.Namespace) -> int:
    """Call the function that the command names."""
    module, _, name = str(options.command).rpartition(".")
    with ended_by_ctrl_c():
        function: Callable[[argparse.Namespace], int] = getattr(import_module(f"roboticks_tasks.{module}"), name)
    return function(options)


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part our own words from those behind --, which are the test command's."""
    if "--" not in words:
        return list(words), []
    at = list(words).index("--")
    return list(words[:at]), list(words[at + 1 :])
