"""What makes a session of pytest part of a run: record, header, and what its tests find in their environment."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from roboticks_tasks import bench, processes, state
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.pytest_plugin.recording import Recorder
from roboticks_tasks.pytest_plugin.workers import SharedBoard

RECORDED = "ROBOTICKS_RECORDED"
"""Names the run that a pytest writes down: one that a test starts within it does not do so once more."""


def own_file(rest: str) -> Path:
    """Return a file of this process in the user's own folder, from which those of killed ones are removed."""
    folder = bench.private_folder()
    for path in folder.glob("pytest-[0-9]*[-.]*"):
        if processes.start_time(int(re.split("[-.]", path.name)[1])) is None:
            path.unlink(missing_ok=True)
    return folder / f"pytest-{os.getpid()}{rest}"


def record(
    config: pytest.Config, patch: pytest.MonkeyPatch, folder_of: Callable[[str | None], Path | None], *, name: str
) -> Recorder | None:
    """Have what happens written down, unless a pytest around this one does so."""
    if os.environ.get(RECORDED) == name:
        return None
    patch.setenv(RECORDED, name)
    recorder = Recorder(config, folder_of)
    config.pluginmanager.register(recorder, "roboticks_recorder")
    return recorder


def share_board(config: pytest.Config) -> None:
    """Have one worker of xdist run the tests that use the board."""
    config.pluginmanager.register(SharedBoard(own_file("-tests.json")), "roboticks_shared_board")


class Header:
    """A plugin that says in pytest's header which run the tests belong to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def pytest_report_header(self) -> str:
        """Return the line."""
        return f"roboticks: {describe(self._folder)}"


class Variables:
    """A plugin that gives a worker what `pytest_session` gives its tests: the device and the session of its run."""

    def __init__(self, patch: pytest.MonkeyPatch, told: Path) -> None:
        self._patch = patch
        self._told: Path | None = told

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self) -> None:
        """Set the variables before the first test: then the controller has brought the run up."""
        if self._told is not None:
            with suppress(OSError, ValueError):
                set_variables(json.loads(self._told.read_bytes()), self._patch)
            self._told = None


def set_variables(variables: Mapping[str, str], patch: pytest.MonkeyPatch) -> None:
    """Set environment variables until the session ends."""
    for name, value in variables.items():
        if os.environ.get(name) != value:
            patch.setenv(name, value)


def describe(folder: Path) -> str:
    """Return a run in a few words: its id, board, device and session."""
    try:
        run = state.load(folder)
    except ConfigError as error:
        return str(error)
    words = [f"run {run.run_id}", f"profile {run.profile}", f"board {run.board_id}"]
    words += [f"device {run.dsn.value}"] if run.dsn else []
    words += [f"session {run.session.id}"] if run.session else []
    return ", ".join(words)
