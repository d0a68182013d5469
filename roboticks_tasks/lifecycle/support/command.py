"""The test command: what the words of the profile mean as a program to start."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from roboticks_tasks.errors import NoVerdictError

SHELL_OPERATORS = frozenset("&|;<>")
"""A word of nothing but these is an operator: `&&`, `>`, `2>&1`."""


ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
"""What a shell takes for the value of a variable, before the program's name."""


class Program(NamedTuple):
    """A program to start; `junit` is where it writes its JUnit file, `is_pytest` whether it must write one."""

    argv: list[str]
    environment: dict[str, str]
    junit: Path
    is_pytest: bool


def parse_command(command: str, *, args: Sequence[str], junit: Path) -> Program:
    """Return how to start `command` with `args` appended, so that it leaves a JUnit file.

    `pytest` means the pytest of this very interpreter; a command with shell operators or leading assignments goes to
    a shell; anything else runs as it is and is told through PYTEST_ADDOPTS. A `--junitxml` of the user's own is
    respected. Raises NoVerdictError for a command that does not parse, and when pytest is not installed.
    """
    try:
        lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        lexer.commenters = ""  # a # inside a word, issue#7 say, is a letter
        words = list(lexer)
    except ValueError as error:
        raise NoVerdictError(
            f"the test command does not parse: {error}: {command!r}",
            remedy="mend `tests.command` or ROBOTICKS_TEST_COMMAND",
        ) from error
    if not words:
        raise NoVerdictError("the test command is empty", remedy="set `tests.command` or ROBOTICKS_TEST_COMMAND")
    options = {"PYTEST_ADDOPTS": shlex.join([f"--junitxml={junit}"])}
    if ASSIGNMENT.match(words[0]) or any(word and SHELL_OPERATORS.issuperset(word) for word in words):
        text = f"{command} {shlex.join(args)}".rstrip()
        return Program(["sh", "-c", text], options, junit, is_pytest=False)
    words = [*shlex.split(command), *args]
    if not _names_pytest(words):
        return Program(words, options, junit, is_pytest=False)
    if Path(words[0]).name in {"pytest", "py.test"} and words[0] == Path(words[0]).name:
        if find_spec("pytest") is None:
            raise NoVerdictError(
                f"pytest is not installed in {sys.executable}", remedy=f"try: {sys.executable} -m pip install pytest"
            )
        words[0:1] = [sys.executable, "-m", "pytest"]
    theirs = _own_junit(words)
    if theirs is not None:
        return Program(words, {}, theirs, is_pytest=True)
    return Program([*words, f"--junitxml={junit}"], {}, junit, is_pytest=True)


def _names_pytest(words: list[str]) -> bool:
    if Path(words[0]).name in {"pytest", "py.test"}:
        return True
    return Path(words[0]).name.startswith("python") and words[1:3] == ["-m", "pytest"]


def _own_junit(words: list[str]) -> Path | None:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        for option in ("--junitxml", "--junit-xml"):
            if word == option and following:
                return Path(following).expanduser()
            if word.startswith(f"{option}="):
                return Path(word.partition("=")[2]).expanduser()
    return None
