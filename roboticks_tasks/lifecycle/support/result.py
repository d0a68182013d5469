"""The result of a run on disk: result.json and the JUnit files."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from roboticks_tasks import disk, state
from roboticks_tasks.backend.secrets import redactor_of
from roboticks_tasks.errors import EXIT_PASSED, EXIT_REPORT_NOT_WRITTEN, Cancelled, ConfigError, RoboticksError, Verdict
from roboticks_tasks.models import RunResult
from roboticks_tasks.reporting import junit

log = logging.getLogger(__name__)

OF_EARLIER_RUN = (junit.MERGED, junit.LIFECYCLE, junit.TESTS, "tests.jsonl", "timeline.jsonl", "report.html")
"""What says something of another run than the one that was refused."""


def refuse(profile: str, artifacts: Path, error: RoboticksError | Cancelled) -> None:
    """Leave why there was no run as the folder's result: CI must not read the green of an earlier run there."""
    if str(artifacts.absolute()) in str(error):
        return  # the run that has the board writes into this very folder, or nobody can
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    reason = f"cancelled by {error}, before it had a board" if isinstance(error, Cancelled) else str(error)
    result = RunResult(
        run_id="refused",
        profile=profile,
        verdict=Verdict.CANCELLED if isinstance(error, Cancelled) else error.verdict,
        exit_code=error.exit_code,
        reason=redactor_of().text(reason),
        started_at=now,
        duration=0,
    )
    with suppress(OSError):  # the refusal itself is told by the exception
        artifacts.mkdir(parents=True, exist_ok=True)
        for name in OF_EARLIER_RUN:
            (artifacts / name).unlink(missing_ok=True)
    write_result(artifacts, result)
    disk.give_back(artifacts)


def write_result(artifacts: Path, result: RunResult) -> RunResult:
    """Write the JUnit files, then result.json; return the result, worse if one could not be written."""
    for write in (_write_junit, state.save_result):
        try:
            write(artifacts, result)
        except (RoboticksError, OSError) as error:
            log.error("the run's result could not be written: %s", error)
            if result.exit_code == EXIT_PASSED:
                result = msgspec.structs.replace(result, exit_code=EXIT_REPORT_NOT_WRITTEN, reason=str(error))
    return result


def _write_junit(artifacts: Path, result: RunResult) -> None:
    run = None
    with suppress(ConfigError):
        run = state.load(artifacts)
    # A run that was refused left the state of an earlier one as it is.
    junit.write_junit(artifacts, result, run if run is not None and run.run_id == result.run_id else None)
