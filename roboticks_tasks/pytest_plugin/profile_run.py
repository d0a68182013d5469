"""`pytest --profile`: the run, or the runs on several boards, that this pytest has brought up for its tests."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree

import pytest
from _pytest.junitxml import xml_key

from roboticks_tasks import ledger, processes, state
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.lifecycle.run import OUTPUT
from roboticks_tasks.models import Process
from roboticks_tasks.profiles import Profile, candidates, load_profile
from roboticks_tasks.pytest_plugin import RUN_VARIABLE
from roboticks_tasks.pytest_plugin.breaking import Stop
from roboticks_tasks.pytest_plugin.companion import Companion
from roboticks_tasks.pytest_plugin.membership import describe, own_file, record, set_variables, share_board
from roboticks_tasks.pytest_plugin.workers import TOLD, WORKERS_RUN, write_part

Code: TypeAlias = "int | pytest.ExitCode | None"

PYTESTS_OWN = range(6)
"""Exit codes that have another meaning with pytest than with our command line."""


class ProfileRun:
    """A plugin that brings a run up before the first test, and has it torn down when pytest has done all it does."""

    def __init__(self, config: pytest.Config, stop: Stop, patch: pytest.MonkeyPatch, profile: str) -> None:
        self._config = config
        self._stop = stop
        self._patch = patch
        self._name = profile
        self._board = config.getoption("roboticks_board") or os.environ.get("ROBOTICKS_BOARD") or None
        self._profile = load_profile(profile)
        candidates(self._profile, self._board)  # an unknown board is told before anything begins
        kept = find_kept(self._profile, self._board)
        folder = kept or state.fresh_folder(OUTPUT, self._profile.name)
        self._is_kept = kept is not None
        self._first = Companion(profile, folder, board=self._board, attach=self._is_kept)
        self._companions = [self._first]
        self._workers: dict[str, Companion] = {}
        self._had: dict[str, Companion] = {}
        self._is_single = True
        self._has_failed = False
        self._session: pytest.Session | None = None
        self._given_junit: str | None = config.getoption("xmlpath", None)
        self._scratch = own_file(".xml")
        given = Path(os.path.expandvars(self._given_junit or self._scratch)).expanduser()
        self._junit_file = config.invocation_params.dir / given
        self._notes: list[str] = []
        patch.setenv(RUN_VARIABLE, str(folder.absolute()))
        if not self._given_junit:
            config.option.xmlpath = str(self._scratch)
        self._recorder = record(config, patch, self._folder_of, name=str(folder.absolute()))

    @contextmanager
    def ended(self) -> Iterator[Callable[[Code], Code]]:
        """Have it for the block; yields what ends it, and makes the session's exit code of pytest's."""
        self._config.pluginmanager.register(self, "roboticks_profile_run")
        try:
            yield self._end
        finally:
            self._end(pytest.ExitCode.INTERNAL_ERROR)  # if pytest has not come to an exit code
            for left in self._scratch.parent.glob(f"{self._scratch.stem}[.-]*"):
                left.unlink(missing_ok=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Give each worker of xdist a board of its own where there are several, else have one worker use the board."""
        workers = config.getoption("tx", None) or []
        if config.getoption("dist", "no") == "no" or not workers:
            return
        boards = len(self._profile.boards)
        if boards > 1 and not self._board and not self._is_kept:
            if len(workers) > boards:
                self._notes.append(f"{boards} workers, one for each board of the profile")
                del workers[boards:]
            while len(self._companions) < len(workers):
                folder = state.fresh_folder(OUTPUT, self._profile.name)
                self._companions.append(Companion(self._name, folder, board=None, attach=False))
            self._is_single = len(self._companions) == 1
        if self._is_single:
            share_board(config)

    def pytest_report_header(self) -> list[str]:
        """Say which run it will be: board, device and session are known once it is up."""
        folders = ", ".join(os.path.relpath(each.folder) for each in self._companions)
        what = "the kept run" if self._is_kept else "a new run"
        return [f"roboticks: profile {self._profile.name}, {what} in {folders}", *(f"  {note}" for note in self._notes)]

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker the folder of its run: one that no other worker has, where there are several."""
        free = [each for each in self._companions if each not in self._workers.values()]
        companion = (free or self._companions)[0]
        self._workers[node.gateway.id] = self._had[node.gateway.id] = companion
        node.workerinput[WORKERS_RUN] = str(companion.folder.absolute())
        node.workerinput[TOLD] = str(self._told(companion))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Have the board of a worker that is gone for the one that replaces it."""
        if not self._is_single:
            self._workers.pop(node.gateway.id, None)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Bring up, if there is any test to run; a worker of xdist waits for us with its first one."""
        is_broken = session.testsfailed and not self._config.option.continue_on_collection_errors
        if not is_broken and (session.items or self._config.pluginmanager.has_plugin("dsession")):
            self._bring_up(session)
        return (yield)

    def pytest_runtest_logfinish(self) -> None:
        """Stop before the next test when the run is over."""
        gone = next((each for each in self._companions if each.has_ended), None)
        if gone is not None and self._session is not None and not self._session.shouldstop:
            self._session.shouldstop = "the run was ended while the tests ran"

    def _bring_up(self, session: pytest.Session) -> None:
        self._session = session
        quiet = self._config.get_verbosity() < 0
        with self._uncaptured():
            for each in self._companions:
                each.start(quiet=quiet)
        for each in self._companions:
            if each.await_up(lambda: self._stop.received is not None):
                if self._had:
                    self._told(each).write_text(json.dumps(each.variables), encoding="utf-8")
                self._say(describe(each.folder))
                continue
            self._has_failed = True
            if self._stop.received is not None:
                raise session.Interrupted(self._stop.reason)
            code = each.wait(lambda: None)
            pytest.exit(each.reason, returncode=code if code not in PYTESTS_OWN else pytest.ExitCode.USAGE_ERROR)
        if self._is_single:
            set_variables(self._first.variables, self._patch)
            self._write_junit_there()

    def _write_junit_there(self) -> None:
        """Have pytest write its JUnit file where the run expects it, unless the user wants it somewhere else."""
        xml = self._config.stash.get(xml_key, None)
        if xml is not None and not self._given_junit and self._first.junit is not None:
            xml.logfile = self._first.junit
            self._junit_file = self._first.junit

    def _told(self, companion: Companion) -> Path:
        """Return the file by which the workers on a board are told of its run."""
        return self._scratch.with_name(f"{self._scratch.stem}-{companion.folder.name}.json")

    def _end(self, code: Code) -> Code:
        """End the run as the tests have ended, and wait for it; pytest's code changes only if it was 0."""
        companions, self._companions = self._companions, []
        ended_by = self._stop.received or (signal.SIGTERM if self._has_failed else None)
        for each in companions:
            own, junit = self._result_for(each, int(code or 0), alone=len(companions) == 1)
            each.tell(own, junit, signal_number=ended_by)
        codes = [each.wait(lambda: self._stop.received) for each in companions]
        worst = max(codes, default=0)
        if worst and int(code or 0) == 0:
            reason = companions[codes.index(worst)].reason
            print(f"roboticks: the tests passed, but not the run: {reason}", file=sys.stderr)
            return worst
        return code

    def _result_for(self, companion: Companion, code: int, *, alone: bool) -> tuple[int, Path | None]:
        """Return the exit code and the JUnit file for a run: of the tests that it has had, where there are several."""
        if alone or self._recorder is None:
            return code, self._junit_file
        part = self._scratch.with_suffix(".part")
        try:
            has_failed = write_part(self._junit_file, part, self._recorder.cases.get(companion.folder, set()))
        except (OSError, ElementTree.ParseError):  # pytest has written none
            return code, None
        return (int(has_failed) if code in {0, 1} else code), part

    def _folder_of(self, worker: str | None) -> Path | None:
        companion = self._first if self._is_single else self._had.get(worker or "")
        return companion.folder if companion is not None else None

    @contextmanager
    def _uncaptured(self) -> Iterator[None]:
        """Let a process that is started meanwhile have our real streams, not those that pytest captures."""
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        with nullcontext() if capture is None else capture.global_and_fixture_disabled():
            yield

    def _say(self, text: str) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and self._config.get_verbosity() >= 0:
            reporter.ensure_newline()
            reporter.write_line(f"roboticks: {text}")


def find_kept(profile: Profile, board: str | None) -> Path | None:
    """Return the folder of the profile's latest run here, if it is up and nobody's tests run in it; else None.

    That is one that has failed and is kept to be looked at, or one that is done step by step.
    """
    try:
        folder = state.latest_folder(OUTPUT, profile.name)
        run = state.load(folder, profile.name)
    except ConfigError:
        return None
    if run.session is None or run.teardown is not None or board not in {None, run.board_id}:
        return None
    if run.kept_until is not None:
        return folder if _is_alive(run.guard) else None
    steps = [entry for entry in ledger.entries() if entry.run_id == run.run_id and not entry.whole]
    return folder if steps and run.running is None else None


def _is_alive(process: Process | None) -> bool:
    return process is not None and processes.is_alive(process.pid, process.start_time)
