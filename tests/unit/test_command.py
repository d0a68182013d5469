"""The test command: what the words of the profile are started as."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboticks_tasks.errors import NoVerdictError
from roboticks_tasks.lifecycle.support.command import Program, parse_command

JUNIT = Path("/run folder/pytest.xml")
OURS = f"--junitxml={JUNIT}"


def parse(command: str, *args: str) -> Program:
    return parse_command(command, args=args, junit=JUNIT)


@pytest.mark.parametrize("word", ["pytest", "py.test"])
def test_pytest_means_the_one_of_this_interpreter(word: str) -> None:
    program = parse(f'{word} tests/ -k "a and b"')
    assert program.argv == [sys.executable, "-m", "pytest", "tests/", "-k", "a and b", OURS]
    assert program.is_pytest
    assert program.junit == JUNIT
    assert program.environment == {}


@pytest.mark.parametrize(
    "command", ["/usr/bin/pytest tests", "python3.12 -m pytest tests", "./venv/bin/python -m pytest"]
)
def test_a_pytest_that_is_named_more_exactly_is_the_one_that_runs(command: str) -> None:
    assert parse(command).argv == [*command.split(), OURS]
    assert parse(command).is_pytest


@pytest.mark.parametrize("option", ["--junitxml", "--junit-xml"])
@pytest.mark.parametrize("glue", [" ", "="])
def test_a_junit_file_of_their_own_is_respected(option: str, glue: str) -> None:
    program = parse(f"pytest {option}{glue}their.xml tests")
    assert program.junit == Path("their.xml")
    assert OURS not in program.argv


def test_a_junit_file_that_is_named_behind_the_dashes_is_respected_too() -> None:
    assert parse("pytest", "--junitxml=their.xml").junit == Path("their.xml")


def test_what_stands_behind_the_dashes_comes_last() -> None:
    assert parse("pytest tests", "-k", "a or b").argv[3:] == ["tests", "-k", "a or b", OURS]


@pytest.mark.parametrize(
    "command",
    [
        "cd tests && pytest",
        "pytest | tee log",
        "pytest;true",
        "pytest >log",
        "pytest 2>&1",
        "pytest -k issue#7 && true",
        "pytest || true",
        "sleep 1 & pytest",
    ],
)
def test_shell_operators_go_to_a_shell(command: str) -> None:
    program = parse(command)
    assert program.argv == ["sh", "-c", command]
    assert not program.is_pytest


def test_the_arguments_of_a_shell_command_keep_their_words() -> None:
    assert parse("true && pytest", "-k", "a b").argv == ["sh", "-c", "true && pytest -k 'a b'"]


@pytest.mark.parametrize("command", ["make check", "ctest --output-on-failure", "true && pytest"])
def test_another_command_is_told_through_the_environment_where_pytest_is_to_write(command: str) -> None:
    program = parse(command)
    assert not program.is_pytest
    assert program.junit == JUNIT
    # PYTEST_ADDOPTS is split as a shell splits: the folder's name has a space.
    assert shlex.split(program.environment["PYTEST_ADDOPTS"]) == [OURS]


def test_a_parametrised_test_id_needs_no_shell() -> None:
    assert parse("pytest 'tests/test_a.py::test_b[x|y;z]'").argv[3] == "tests/test_a.py::test_b[x|y;z]"


def test_a_quote_that_is_not_closed_is_said_with_the_command() -> None:
    with pytest.raises(NoVerdictError, match=r"does not parse: No closing quotation: .*ROBOTICKS_TEST_COMMAND"):
        parse("pytest 'tests")


@pytest.mark.parametrize("command", ["", "   ", "\n"])
def test_an_empty_command_is_refused(command: str) -> None:
    with pytest.raises(NoVerdictError, match="the test command is empty"):
        parse(command)


@given(st.lists(st.text().filter(lambda text: "\0" not in text), max_size=4))
def test_arguments_reach_pytest_letter_for_letter(args: list[str]) -> None:
    argv = parse("pytest", *args).argv
    assert argv[3 : 3 + len(args)] == args


def test_a_leading_assignment_needs_a_shell() -> None:
    program = parse("FLEET=one pytest tests", "-k", "a b")
    assert program.argv == ["sh", "-c", "FLEET=one pytest tests -k 'a b'"]
    assert not program.is_pytest
