"""Runs of the time before the history, or of other runners: JUnit files."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from xml.parsers import expat

from roboticks_tasks.errors import ConfigError, Verdict
from roboticks_tasks.history.store import History
from roboticks_tasks.models import Provenance, RunResult
from roboticks_tasks.reporting.junit_cases import read_cases
from roboticks_tasks.reporting.parsing import UnreadableError, feed, local, new_parser
from roboticks_tasks.reporting.values import Finished
from roboticks_tasks.reporting.words import count


def import_junit(history: History, paths: list[Path], *, profile: str, board: str | None, commit: str | None) -> int:
    """Record a run for each file, of all of them or none, and return the number of their tests.

    A file that was imported before takes the place of what it was then. ConfigError for one that is no JUnit file.
    """
    runs = [_read(path, profile=profile, board=board, commit=commit) for path in paths]
    history.record(*runs)
    return sum(len(run.cases) for run in runs)


def _read(path: Path, *, profile: str, board: str | None, commit: str | None) -> Finished:
    if path.exists() and not path.is_file():
        raise ConfigError(f"nothing was imported: {path} is no file", remedy="name a JUnit file")
    try:
        with path.open("rb") as stream:
            name = hashlib.file_digest(stream, "sha256").hexdigest()[:24]
        modified = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()
    except OSError as error:
        raise ConfigError(
            f"nothing was imported: {path} cannot be read: {error.strerror}", remedy="name a JUnit file"
        ) from error
    reading = read_cases(path)
    if reading is None or reading.problem is not None:
        why = reading.problem if reading is not None else "it cannot be read"
        raise ConfigError(f"nothing was imported: {path}: {why}", remedy="name a whole JUnit file")
    if not reading.cases:
        raise ConfigError(f"nothing was imported: {path} holds no test", remedy="name a JUnit file")
    bad = sum(case.outcome in {"failed", "error"} for case in reading.cases)
    verdict = Verdict.FAILED if bad else Verdict.PASSED
    return Finished(
        result=RunResult(
            run_id=f"junit-{name}",
            profile=profile,
            verdict=verdict,
            exit_code=int(bool(bad)),
            reason=f"{bad} of {count(len(reading.cases), 'test')} failed"
            if bad
            else f"{count(len(reading.cases), 'test')} passed",
            started_at=_timestamp(path) or modified,
            duration=sum(case.duration for case in reading.cases),
            board_id=board,
            provenance=Provenance(commit=commit),
        ),
        cases=tuple(reading.cases),
    )


def _timestamp(path: Path) -> str | None:
    """Return the first suite's time, None where it says none."""
    found: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if local(name) == "testsuite" and not found:
            found.append(attributes.get("timestamp", ""))

    parser = new_parser()
    parser.StartElementHandler = start
    with suppress(OSError, UnreadableError, expat.ExpatError), path.open("rb") as stream:
        feed(parser, stream, until=lambda: bool(found))
    with suppress(ValueError, IndexError):
        datetime.fromisoformat(found[0])
        return found[0]
    return None
