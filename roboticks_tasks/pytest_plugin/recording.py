"""tests.jsonl: when each test of a run began and how each attempt of it ended, while it happens."""

from __future__ import annotations

import logging
import mimetypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from roboticks_tasks import ledger, state
from roboticks_tasks.backend.secrets import redactor_of
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.events import CaseFinished, CaseStarted, Event, Sink, fan_out, write_jsonl
from roboticks_tasks.models import Attachment
from roboticks_tasks.pytest_plugin.failures import Outcome, junit_names, message_of, outcome_of, place_of
from roboticks_tasks.pytest_plugin.progress import Progress
from roboticks_tasks.redaction import Redactor

if TYPE_CHECKING:
    from roboticks_tasks.state import RunState

log = logging.getLogger(__name__)

TESTS_FILE = "tests.jsonl"

ATTACHED = "roboticks.attach."
"""How the properties begin by which tests name files; the platform's SDK writes them, too."""

MOST_ATTACHMENTS = 200
"""Of one test."""

GRAVITY: tuple[Outcome | None, ...] = (None, "passed", "skipped", "error", "failed", "rerun")
"""What a later phase says replaces only what is less grave: a failed test is that, however its tear-down ends."""


class Recorder:
    """A plugin that writes down what happens to the tests: in the process itself, or the controller of pytest-xdist.

    `folder_of` tells the run's folder for a worker of xdist; for None it is that of all of them, if they share one.
    Whatever goes wrong here, no test fails.
    """

    def __init__(self, config: pytest.Config, folder_of: Callable[[str | None], Path | None]) -> None:
        self.cases: dict[Path, set[tuple[str, str]]] = {}
        """Classname and name of the tests that each run has finished."""
        self._config = config
        self._folder_of = folder_of
        self._books: dict[Path, Book] = {}
        self._open: dict[tuple[str, str | None], Case] = {}
        self._total: int | None = None
        self._prefix: str | None = config.getoption("junitprefix", None)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Know how many tests there are."""
        self._total = len(session.items) or None

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Know it from a worker."""
        self._total = len(ids)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Tell that a test begins; which worker has it, xdist tells only with its first report."""
        with _harmless():
            if (book := self._book(None)) is not None:
                book.tell(CaseStarted(nodeid=_text(nodeid)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a phase to its test, and tell its end with the last one."""
        with _harmless():
            worker = _worker_of(report)
            key = (report.nodeid, worker)
            # Of a repetition, and nobody has reported the tear-down before; a subtest's report comes before a set-up's.
            if report.when == "setup" and key in self._open and self._open[key].outcome == "rerun":
                self._finish(self._open.pop(key), worker)
            if key not in self._open:
                self._open[key] = Case(report)
                if self._folder_of(None) is None and (book := self._book(worker)) is not None:
                    book.tell(CaseStarted(at=report.start or time.time(), nodeid=_text(report.nodeid), worker=worker))
            case = self._open[key]
            case.add(report)
            if report.when not in {"setup", "call"}:  # that of a crashed worker is its last one, too
                self._finish(self._open.pop(key), worker)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Tell the end of tests whose tear-down was never reported, and let go."""
        with _harmless():
            for (_, worker), case in self._open.items():
                if case.outcome is not None:
                    self._finish(case, worker)
            self._open.clear()
            for book in self._books.values():
                book.close()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say in a line what the platform has not been told."""
        for book in self._books.values():
            if book.complaint:
                terminalreporter.write_line(f"roboticks: {book.complaint}")

    def _finish(self, case: Case, worker: str | None) -> None:
        folder, book = self._folder_of(worker), self._book(worker)
        if folder is None or book is None:
            return
        event = case.finished(worker, config=self._config, folder=folder, prefix=self._prefix)
        self.cases.setdefault(folder, set()).add((event.classname, event.name))
        book.tell(event)

    def _book(self, worker: str | None) -> Book | None:
        folder = self._folder_of(worker)
        if folder is None:
            return None
        if folder not in self._books:
            self._books[folder] = Book(folder, total=lambda: self._total)
        return self._books[folder]


class Case:
    """A test, or one attempt of it, of which not all phases are known yet."""

    def __init__(self, report: pytest.TestReport) -> None:
        self.outcome: Outcome | None = None
        self._told = self._last = report
        self._begin = report.start or time.time()
        self._duration = 0.0

    def add(self, report: pytest.TestReport) -> None:
        """Take note of a phase."""
        self._last = report
        self._duration += report.duration
        outcome = outcome_of(report)
        if outcome is not None and GRAVITY.index(outcome) > GRAVITY.index(self.outcome):
            self.outcome = outcome
            if report.longrepr is not None or self._told.longrepr is None:
                self._told = report

    def finished(self, worker: str | None, *, config: pytest.Config, folder: Path, prefix: str | None) -> CaseFinished:
        """Return what is to be told of it."""
        classname, name = junit_names(self._last.nodeid, prefix)
        message = message_of(self._told)
        file, line = place_of(self._told, config)
        return CaseFinished(
            at=self._last.stop or time.time(),
            nodeid=_text(self._last.nodeid),
            classname=_text(classname),
            name=_text(name),
            outcome=self.outcome or "passed",
            begin=self._begin,
            duration=round(self._duration, 6),
            worker=worker,
            message=None if message is None else _text(message),
            file=None if file is None else _text(file),
            line=line,
            attachments=attachments_of(self._last.user_properties, folder),
        )


class Book:
    """Where the events of one run go; what that takes is found out with the first one."""

    def __init__(self, folder: Path, *, total: Callable[[], int | None]) -> None:
        self._folder = folder
        self._total = total
        self._sink: Sink | None = None
        self._redactor: Redactor | None = None
        self._progress: Progress | None = None

    def tell(self, event: CaseStarted | CaseFinished) -> None:
        """Write it down, without secrets, and have the platform told."""
        if self._sink is None or self._redactor is None:
            run = _load(self._folder)
            self._redactor = redactor_for(run)
            self._progress = Progress.of(run, total=self._total)
            sinks: list[Sink] = [write_jsonl(self._folder / TESTS_FILE)]
            self._sink = fan_out([*sinks, self._progress] if self._progress else sinks)
        self._sink(_redacted(event, self._redactor))

    def close(self) -> None:
        """Let what waits for the platform go there, for a moment."""
        if self._progress is not None:
            self._progress.close()

    @property
    def complaint(self) -> str | None:
        """Return what the platform has not been told, and why; None when there is nothing to say."""
        return self._progress.complaint if self._progress is not None else None


def redactor_for(run: RunState | None) -> Redactor:
    """Return what redacts every secret of a run, as far as its profile can be found from within its tests."""
    from roboticks_tasks.profiles import load_profile

    profile = None
    if run is not None:
        profile = next((entry.profile for entry in ledger.entries() if entry.run_id == run.run_id), None)
        if profile is None:
            with suppress(ConfigError):
                profile = load_profile(run.profile)
    redactor = redactor_of(profile)
    files = [] if run is None or run.backend is None else [run.backend.secret_file, run.backend.api_key_file]
    return Redactor(redactor.secrets, files=[*redactor.files, *(Path(name) for name in files if name)])


def attachments_of(properties: list[tuple[str, object]], folder: Path) -> tuple[Attachment, ...]:
    """Return the files below the run's folder that the test's properties name, each once."""
    found: dict[str, Attachment] = {}
    for name, value in properties:
        if str(name).startswith(ATTACHED) and len(found) < MOST_ATTACHMENTS:
            with suppress(OSError, ValueError):  # it is gone, is somewhere else, or is no path at all
                path = folder / str(value)
                path = (path if path.exists() else Path(str(value))).resolve(strict=True)
                inside = path.relative_to(folder.resolve()).as_posix()
                if path.is_file():
                    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
                    size = path.stat().st_size
                    found[inside] = Attachment(name=_text(path.name), path=_text(inside), media_type=kind, size=size)
    return tuple(found.values())


def _redacted(event: CaseStarted | CaseFinished, redactor: Redactor) -> Event:
    if not redactor.finds(msgspec.json.encode(event)):
        return event
    values = msgspec.structs.asdict(event)
    words = {name: redactor.text(value) for name, value in values.items() if isinstance(value, str)}
    if not isinstance(event, CaseFinished):
        return msgspec.structs.replace(event, **words)
    named = tuple(
        msgspec.structs.replace(each, name=redactor.text(each.name), path=redactor.text(each.path))
        for each in event.attachments
    )
    return msgspec.structs.replace(event, **{**words, "outcome": event.outcome, "attachments": named})


@contextmanager
def _harmless() -> Iterator[None]:
    try:
        yield
    except Exception:
        log.exception("what happened to a test could not be written down")


def _worker_of(report: pytest.TestReport) -> str | None:
    """Return the name of xdist's worker; the report of a crashed one has only the worker itself."""
    node: Any = getattr(report, "node", None)
    named = getattr(report, "worker_id", None) or (node is not None and node.gateway.id)
    return str(named) if named else None


def _load(folder: Path) -> RunState | None:
    try:
        return state.load(folder)
    except ConfigError:
        return None


def _text(text: str) -> str:
    """Return `text` as UTF-8 can hold it."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
