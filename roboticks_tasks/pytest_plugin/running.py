"""Tests in a run: in the one that has started this pytest, or, with `--profile`, in one of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from roboticks_tasks import state
from roboticks_tasks.errors import ConfigError, RoboticksError
from roboticks_tasks.profiles import load_profile
from roboticks_tasks.pytest_plugin import RUN_VARIABLE
from roboticks_tasks.pytest_plugin.breaking import Stop
from roboticks_tasks.pytest_plugin.membership import Header, Variables, record, share_board
from roboticks_tasks.pytest_plugin.workers import HIL_TESTS, TOLD, WORKERS_RUN, Names

Code: TypeAlias = "int | pytest.ExitCode | None"

LOOKS = ("collectonly", "showfixtures", "show_fixtures_per_test", "setupplan", "markers", "help", "version")
"""Options with which pytest runs no test: an IDE that looks for tests must not start a device."""


@contextmanager
def attended(config: pytest.Config, stop: Stop) -> Iterator[Callable[[Code], Code]]:
    """Have the session's tests belong to a run, for the block; yields what makes the session's exit code of pytest's.

    UsageError, one sentence, where that cannot be.
    """
    profile = config.getoption("roboticks_profile", None)
    with pytest.MonkeyPatch.context() as patch:
        try:
            if hasattr(config, "workerinput"):
                _join(config, config.workerinput, patch)
            elif RUN_VARIABLE in os.environ:
                _enter(config, profile, patch)
            elif profile and not any(config.getoption(name, None) for name in LOOKS):
                from roboticks_tasks.pytest_plugin.profile_run import ProfileRun

                with ProfileRun(config, stop, patch, profile).ended() as code_of:
                    yield code_of
                return
        except RoboticksError as error:
            raise pytest.UsageError(str(error)) from None
        yield lambda code: code


def _join(config: pytest.Config, given: dict[str, Any], patch: pytest.MonkeyPatch) -> None:
    """Take part as a worker of xdist: its controller has the run, and writes down what happens."""
    if WORKERS_RUN in given:
        patch.setenv(RUN_VARIABLE, given[WORKERS_RUN])
        config.pluginmanager.register(Variables(patch, Path(given[TOLD])), "roboticks_variables")
    if HIL_TESTS in given:
        config.pluginmanager.register(Names(Path(given[HIL_TESTS])), "roboticks_names")


def _enter(config: pytest.Config, profile: str | None, patch: pytest.MonkeyPatch) -> None:
    """Take part in the run that has started us; ConfigError when it is another one than `--profile` asks for."""
    folder = Path(os.environ[RUN_VARIABLE])
    if profile is not None:
        ours, theirs = load_profile(profile).name, state.load(folder).profile
        if ours != theirs:
            raise ConfigError(f"--profile {ours}: these tests belong to a run of profile {theirs!r} ({folder})")
    config.pluginmanager.register(Header(folder), "roboticks_header")
    share_board(config)
    record(config, patch, lambda worker: folder, name=str(folder))
