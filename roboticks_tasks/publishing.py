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
from roboticks_tasks.errors import EXIT_PASSED, EXIT_REPORT_NOT_WRITTEN, Cancelled, RoboticksError
from roboticks_tasks.events import RunFinished
from roboticks_tasks.models import Provenance, RunResult
from roboticks_tasks.profiles import Profile
from roboticks_tasks.signals import Interruption
from roboticks_tasks.waiting import Deadline

if TYPE_CHECKING:
    from roboticks_tasks.reporting.timeline import Timeline
    from roboticks_tasks.reporting.values import Diagnosis, Finished

log = logging.getLogger(__name__)

HASTE = 1_000_000
"""Bytes of the end of each log that count when somebody waits for us to end: a third of a second of work for all."""

PATIENCE = {False: 5.0, True: 0.5}
"""Seconds that another run may have the history locked; in a hurry or not."""

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
    interruption: Interruption | None = None,
    environ: Mapping[str, str] | None = None,
) -> RunResult:
    """Make the reports of the run in `artifacts`, tell the CI system, the history and the platform of it.

    Returns `result` with the diagnosis in it, and with code 18 when the run has passed but a report could not be
    written; result.json says the same. What else cannot be told is a line of the log: this never raises. In a hurry,
    when a signal has come or nobody waits for us (without `interruption`), only the ends of the logs count, and
    nothing is uploaded. A signal that comes now ends what is being made, and the rest is done in a hurry.
    """
    environ = os.environ if environ is None else environ
    finished, failures = None, list[str]()
    with _cancellable(interruption), _spared("the run has no report", failures):
        finished, diagnosis, timeline = _examine(artifacts, environ, hurry=_is_hurried(interruption))
        result = finished.result
        for problem in finished.problems:
            log.warning("%s", problem)
        _write_page(artifacts, finished, diagnosis, timeline)
    if failures and result.exit_code == EXIT_PASSED:
        reason = f"{result.reason}, but a report could not be written: {failures[0]}"
        result = msgspec.structs.replace(result, exit_code=EXIT_REPORT_NOT_WRITTEN, reason=reason, diagnosis=reason)
        with _spared("its result does not say so"):
            state.save_result(artifacts, result)
    disk.give_back(artifacts)
    with _cancellable(interruption):
        if finished is not None:
            finished = msgspec.structs.replace(finished, result=result)
            diagnosis = msgspec.structs.replace(diagnosis, sentence=result.diagnosis or "")
            with _spared("the run is not in the history"):
                _remember(finished, environ, patience=PATIENCE[_is_hurried(interruption)])
            if not _was_told(finished):
                with _spared("the CI system has no summary of the run"):
                    _tell_ci(finished, diagnosis, environ)
        if not _is_hurried(interruption):
            with _spared("the run's results are not on the platform"):
                _upload(profile, artifacts, environ)
    return result


def make_reports(artifacts: Path, *, environ: Mapping[str, str]) -> Reports:
    """Make timeline.jsonl and report.html of the finished run in `artifacts`, and put the diagnosis into result.json.

    Everything is read from the folder, so that this can be done again, and elsewhere. ConfigError when there is no
    finished run there, or the folder cannot be written.
    """
    finished, diagnosis, timeline = _examine(artifacts, environ)
    return Reports(finished, diagnosis, timeline, _write_page(artifacts, finished, diagnosis, timeline))


def _examine(
    artifacts: Path, environ: Mapping[str, str], *, hurry: bool = False
) -> tuple[Finished, Diagnosis, Timeline]:
    """Read the run, write its timeline, and put into result.json what it is diagnosed with."""
    from roboticks_tasks.reporting.diagnosis import diagnose
    from roboticks_tasks.reporting.finished import read_run
    from roboticks_tasks.reporting.timeline import build_timeline

    finished = read_run(artifacts)
    timeline = build_timeline(artifacts, finished.state, finished.cases, most=HASTE if hurry else None)
    diagnosis = diagnose(finished, timeline, _flakiness(finished.result, environ, PATIENCE[hurry]))
    result = msgspec.structs.replace(
        finished.result, cause=diagnosis.cause, diagnosis=diagnosis.sentence, advice=diagnosis.advice or None
    )
    state.save_result(artifacts, result)
    return msgspec.structs.replace(finished, result=result), diagnosis, timeline


def _write_page(artifacts: Path, finished: Finished, diagnosis: Diagnosis, timeline: Timeline) -> Path:
    from roboticks_tasks.reporting.page import write_page

    return write_page(artifacts, finished, diagnosis, timeline)


def _is_hurried(interruption: Interruption | None) -> bool:
    return interruption is None or interruption.received is not None


@contextmanager
def _cancellable(interruption: Interruption | None) -> Iterator[None]:
    """Let the first signal end the block, and nothing else."""
    if interruption is None or _is_hurried(interruption):
        yield
        return
    try:
        with interruption.raising():
            yield
    except Cancelled as error:
        log.warning("not all reports are made: %s", error)


def _flakiness(result: RunResult, environ: Mapping[str, str], patience: float) -> Callable[[str], str | None]:
    """Return what asks the history about a test that has failed; where it cannot be asked, nothing is known."""
    failures: list[str] = []

    def ask(nodeid: str) -> str | None:
        from roboticks_tasks.history import History, location

        if failures:  # what is locked or damaged is so for the next test as well
            return None
        with (
            _spared("the history was not asked whether tests are flaky", failures),
            History.open(location(environ), patience=patience) as history,
        ):
            return history.flaky_note(nodeid, _commit(result.provenance), besides=result.run_id)
        return None

    return ask


def _commit(provenance: Provenance) -> str | None:
    """Return the commit that was tested, if that was all that was tested."""
    return None if provenance.is_dirty else provenance.commit


def _remember(finished: Finished, environ: Mapping[str, str], *, patience: float) -> None:
    from roboticks_tasks.history import History, location

    with History.open(location(environ), patience=patience) as history:
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
def _spared(consequence: str, failures: list[str] | None = None) -> Iterator[None]:
    """Let the block fail without ending the run; why is put into `failures`."""
    failures = [] if failures is None else failures
    try:
        yield
    except (RoboticksError, OSError) as error:
        failures.append(str(error))
        log.warning("%s: %s", consequence, error)
    except Exception as error:
        failures.append(f"{type(error).__name__}: {error}")
        log.exception("%s; this is a bug, please report it", consequence)
