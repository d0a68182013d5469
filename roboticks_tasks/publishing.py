"""What is told of a finished run: reports in its folder, the CI system's page, the history, the platform."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from roboticks_tasks import disk, state
from roboticks_tasks.errors import EXIT_PASSED, EXIT_REPORT_NOT_WRITTEN, RoboticksError
from roboticks_tasks.events import RunFinished
from roboticks_tasks.models import Provenance, RunResult
from roboticks_tasks.profiles import Profile
from roboticks_tasks.waiting import Deadline

if TYPE_CHECKING:
    from roboticks_tasks.reporting.timeline import Timeline
    from roboticks_tasks.reporting.values import Diagnosis, Finished

log = logging.getLogger(__name__)

HASTE = 4_000_000
"""Bytes of the end of each log that count when somebody waits for us to end."""

UPLOAD_TIME = 120.0
"""Seconds that an upload may take; the rest is sent by `roboticks-tasks upload`."""


class Reports(NamedTuple):
    """What a run's folder holds for people, and what was read to make it."""

    finished: Finished
    diagnosis: Diagnosis
    timeline: Timeline
    page: Path


def publish(
    profile: Profile,
    artifacts: Path,
    result: RunResult,
    *,
    environ: Mapping[str, str] | None = None,
    hurry: bool = False,
) -> RunResult:
    """Make the reports of the run in `artifacts`, tell the CI system, the history and the platform of it.

    Returns `result` with the diagnosis in it, and with code 18 when the run has passed but a report could not be
    written; result.json says the same. What else cannot be told is a line of the log: this never raises. In a `hurry`,
    when somebody waits to kill us, only the ends of the logs count, and nothing is uploaded.
    """
    environ = os.environ if environ is None else environ
    with _spared("the run has no report") as failures:
        finished, diagnosis, *_ = make_reports(artifacts, environ=environ, most=HASTE if hurry else None)
        for problem in finished.problems:
            log.warning("%s", problem)
        result = finished.result
        with _spared("the run is not in the history"):
            _remember(finished, environ)
        if not _was_told(finished):
            with _spared("the CI system has no summary of the run"):
                _tell_ci(finished, diagnosis, environ)
    if failures and result.exit_code == EXIT_PASSED:
        reason = f"{result.reason}, but a report could not be written: {failures[0]}"
        result = msgspec.structs.replace(result, exit_code=EXIT_REPORT_NOT_WRITTEN, reason=reason)
        with _spared("its result does not say so"):
            state.save_result(artifacts, result)
    disk.give_back(artifacts)
    if not hurry:
        with _spared("the run's results are not on the platform"):
            _upload(profile, artifacts, environ)
    return result


def make_reports(artifacts: Path, *, environ: Mapping[str, str], most: int | None = None) -> Reports:
    """Make timeline.jsonl and report.html of the finished run in `artifacts`, and put the diagnosis into result.json.

    Everything is read from the folder, so that this can be done again, and elsewhere. `most` is the number of bytes
    that count of each log's end. ConfigError when there is no finished run there, or the folder cannot be written.
    """
    from roboticks_tasks.reporting.diagnosis import diagnose
    from roboticks_tasks.reporting.finished import read_run
    from roboticks_tasks.reporting.page import write_page
    from roboticks_tasks.reporting.timeline import build_timeline

    finished = read_run(artifacts)
    timeline = build_timeline(artifacts, finished.state, finished.cases, most=most)
    diagnosis = diagnose(finished, timeline, _flakiness(finished.result, environ))
    result = msgspec.structs.replace(
        finished.result, cause=diagnosis.cause, diagnosis=diagnosis.sentence, advice=diagnosis.advice or None
    )
    state.save_result(artifacts, result)
    finished = msgspec.structs.replace(finished, result=result)
    return Reports(finished, diagnosis, timeline, write_page(artifacts, finished, diagnosis, timeline))


def _flakiness(result: RunResult, environ: Mapping[str, str]) -> Callable[[str], str | None]:
    """Return what asks the history about a test that has failed; where it cannot be asked, nothing is known."""

    def ask(nodeid: str) -> str | None:
        from roboticks_tasks.history import History, location

        with _spared("the history was not asked whether the test is flaky"), History.open(location(environ)) as history:
            return history.flaky_note(nodeid, _commit(result.provenance), besides=result.run_id)
        return None

    return ask


def _commit(provenance: Provenance) -> str | None:
    """Return the commit that was tested, if that was all that was tested."""
    return None if provenance.is_dirty else provenance.commit


def _remember(finished: Finished, environ: Mapping[str, str]) -> None:
    from roboticks_tasks.history import History, location

    with History.open(location(environ)) as history:
        history.record(finished)


def _tell_ci(finished: Finished, diagnosis: Diagnosis, environ: Mapping[str, str]) -> None:
    from roboticks_tasks.reporting.github import tell_github

    tell_github(finished, diagnosis, environ)


def _upload(profile: Profile, artifacts: Path, environ: Mapping[str, str]) -> None:
    from roboticks_tasks.upload import upload_run

    report = upload_run(artifacts, profile, environ=environ, deadline=Deadline(UPLOAD_TIME))
    for problem in report.problems:
        log.warning("the platform has not all of the run: %s; `roboticks-tasks upload` sends the rest", problem)
    if report.skipped:
        log.debug("nothing is uploaded: %s", report.skipped)


def _was_told(finished: Finished) -> bool:
    """Tell whether the same verdict has been told before: `teardown` comes again where the run has torn down itself."""
    verdict = finished.result.verdict
    return sum(isinstance(event, RunFinished) and event.verdict == verdict for event in finished.events) > 1


@contextmanager
def _spared(consequence: str) -> Iterator[list[str]]:
    """Let the block fail without ending the run; the list that it gets holds why afterwards."""
    failures: list[str] = []
    try:
        yield failures
    except (RoboticksError, OSError) as error:
        failures.append(str(error))
        log.warning("%s: %s", consequence, error)
    except Exception as error:
        failures.append(f"{type(error).__name__}: {error}")
        log.exception("%s; this is a bug, please report it", consequence)
