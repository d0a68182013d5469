"""The result of a run on disk: result.json and the verdict in results.xml."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from roboticks_tasks import disk, state
from roboticks_tasks.backend.secrets import redactor_of
from roboticks_tasks.errors import EXIT_PASSED, EXIT_REPORT_NOT_WRITTEN, Cancelled, RoboticksError, Verdict
from roboticks_tasks.lifecycle.support import junit
from roboticks_tasks.models import RunResult

log = logging.getLogger(__name__)


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
        (artifacts / "results.xml").unlink(missing_ok=True)
    write_result(artifacts, result)


def write_result(artifacts: Path, result: RunResult) -> RunResult:
    """Write the verdict into results.xml, then result.json; return the result, worse if one could not be written."""
    for write in (_write_verdict, _write_json):
        try:
            write(artifacts, result)
        except (RoboticksError, OSError) as error:
            log.error("the run's result could not be written: %s", error)
            if result.exit_code == EXIT_PASSED:
                result = msgspec.structs.replace(result, exit_code=EXIT_REPORT_NOT_WRITTEN, reason=str(error))
    disk.give_back(artifacts)
    return result


def _write_json(artifacts: Path, result: RunResult) -> None:
    content = msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"
    state.write_atomically(artifacts / state.RESULT_FILE, content)


def _write_verdict(artifacts: Path, result: RunResult) -> None:
    """Put the verdict into the JUnit file; where no test ran, one case says which step ended the run, and why."""
    path = artifacts / "results.xml"
    broken = next((step for step in result.steps if step.outcome != "ok"), None)
    if junit.read_counts(path) is None:  # there is none, or what wrote it was cut off
        kind = {Verdict.PASSED: None, Verdict.FAILED: "failure"}.get(Verdict(result.verdict), "error")
        name = broken.name if broken else result.verdict
        message = f"{result.reason} (what the tests had written here was cut off)" if path.exists() else result.reason
        junit.write_single(path, name=name, seconds=result.duration, kind=kind, message=message)
    values = {"verdict": result.verdict, "run": result.run_id, "profile": result.profile, "dsn": result.dsn}
    junit.stamp(path, {f"roboticks_tasks.{name}": value for name, value in values.items() if value})
