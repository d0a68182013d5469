"""pytest_session: the tests run against the device and leave a verdict."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from roboticks_tasks.backend.secrets import redactor_of
from roboticks_tasks.bounded import last_lines
from roboticks_tasks.disk import replacing
from roboticks_tasks.errors import BackendError, ConfigError, NoTestsError, NoVerdictError, TargetError, Verdict
from roboticks_tasks.events import CaseFinished, read_events
from roboticks_tasks.lifecycle.support import bus_recorder
from roboticks_tasks.lifecycle.support.command import Program, parse_command
from roboticks_tasks.lifecycle.support.console_loss import console_loss, log_size
from roboticks_tasks.lifecycle.support.discretion import redact_file
from roboticks_tasks.lifecycle.support.group import TESTS_LOG, TESTS_PID, run_group
from roboticks_tasks.lifecycle.support.sightings import Watcher, check_answers
from roboticks_tasks.models import BoardRef, DeviceManager, PytestResult, Session
from roboticks_tasks.profiles import Profile
from roboticks_tasks.redaction import Redactor
from roboticks_tasks.reporting import junit
from roboticks_tasks.reporting.cases import NOTES
from roboticks_tasks.targets import Target, open_target
from roboticks_tasks.targets.lending import lending
from roboticks_tasks.waiting import Deadline

NO_TESTS_COLLECTED = 5
"""pytest's exit code for an empty run."""

NOT_STARTED = {126, 127}
"""A shell's exit codes for a command that cannot be executed, or is not there."""

COMPLAINT = re.compile(r"ERROR: |[^:]+: error: |INTERNALERROR> [\w.]+(?:Error|Exception)\b")
"""A line in which pytest complains of its command line, or of itself."""

REASONS = {
    2: "it was interrupted",
    3: "pytest had an internal error",
    4: "pytest did not understand its command line",
    126: "the command is not executable",
    127: "the command was not found",
}


def pytest_session(
    profile: Profile,
    session: Session,
    *,
    artifacts: Path,
    args: Sequence[str] = (),
    timeout: float | None = None,
    dm: DeviceManager | None = None,
    target: Target | None = None,
    bus: str | None = None,
    board: BoardRef | None = None,
) -> PytestResult:
    """Run the profile's test command, with `args` appended, against the device of `session`.

    `artifacts` is the run's folder: `pytest.xml` and `pytest.log` are written there, and the pytest plugin reads the
    run from it. `timeout` is in seconds, by default the profile's. Failing tests are a result. When the device
    manager `dm` died while they ran, or tests failed and the console of `board` is lost, the bench is to blame, and
    NoVerdictError says so. What the modules say meanwhile
    on the message bus at `bus`, an endpoint of ZeroMQ's, is recorded in `bus.jsonl`. Raises NoTestsError when
    nothing was collected and NoVerdictError when the command cannot run, is stopped by the time limit, or ends without
    a verdict; `pytest.xml` is there in every case, and untouched: where the tests left none it says why.
    """
    results = artifacts.absolute() / junit.TESTS
    deadline = Deadline(profile.tests.timeout if timeout is None else timeout)
    redactor = redactor_of(profile)
    try:
        for left in (results, artifacts / NOTES, artifacts / bus_recorder.NAME):  # the step may be repeated
            left.unlink(missing_ok=True)
        command = parse_command(profile.tests.command, args=args, junit=results)
        heard = log_size(board)
        command.junit.unlink(missing_ok=True)  # a crash must not be read as yesterday's green
        try:
            recorded = bus_recorder.recording(bus, artifacts / bus_recorder.NAME, redactor)
            with recorded, lending(profile, artifacts, target):  # a console takes one shell client: the tests use ours
                code = _run(command, session, artifacts, deadline=deadline, redactor=redactor)
        finally:  # a signal, too
            redact_file(command.junit, redactor.sparing(junit.NAMES))
        if command.junit != results and command.junit.is_file():
            _copy(command.junit, results)
        result = _judge(
            command, code, artifacts, deadline, words=f"{profile.tests.command} {shlex.join(args)}".rstrip()
        )
        if dm is not None:
            _check_device_manager(profile, dm, result, target)
        if not result.ok and (loss := console_loss(board, since=heard)):
            raise NoVerdictError(
                f"the console was lost while the tests ran ({_counts(result)}): {loss}",
                remedy="check its cable and adapter; see console.log",
                verdict=Verdict.BENCH_ERROR,
            )
        return result
    except OSError as error:
        raise NoVerdictError(
            f"the run's folder does not take what the tests write: {error}", remedy="free space"
        ) from error
    except (NoVerdictError, NoTestsError) as error:
        if not results.exists():  # of one that is cut off, the whole cases are worth more
            message = redactor.text(str(error))
            with suppress(ConfigError):  # why there is no verdict is worth more than why that cannot be written
                junit.write_stand_in(results, seconds=deadline.elapsed, message=message)
        raise


# pytest takes a conftest.py's names that begin with `pytest_` for hooks and dies on those it does not know.
pytest_session.pytest_impl = {"optionalhook": True}  # type: ignore[attr-defined]


def _run(command: Program, session: Session, artifacts: Path, *, deadline: Deadline, redactor: Redactor) -> int | None:
    given = os.environ.get("PYTEST_ADDOPTS", "")
    ours = command.environment.get("PYTEST_ADDOPTS", "")
    environment = {
        **os.environ,
        "PYTEST_ADDOPTS": f"{given} {ours}".strip(),
        "ROBOTICKS_RUN": str(artifacts.absolute()),
        "ROBOTICKS_DSN": session.dsn,
        "ROBOTICKS_SESSION_ID": session.id,
    }
    logs = {"log_file": artifacts / TESTS_LOG, "pid_file": artifacts / TESTS_PID}
    try:
        return run_group(command.argv, environment=environment, deadline=deadline, redactor=redactor, **logs)
    except (FileNotFoundError, PermissionError) as error:
        if error.filename != command.argv[0]:
            raise
        return 127 if isinstance(error, FileNotFoundError) else 126


def _copy(source: Path, destination: Path) -> None:
    with source.open("rb") as written, replacing(destination) as copy:
        shutil.copyfileobj(written, copy)


def _judge(command: Program, code: int | None, artifacts: Path, deadline: Deadline, *, words: str) -> PytestResult:
    results = artifacts.absolute() / junit.TESTS
    if code is None:
        raise NoVerdictError(
            f"the tests did not end within {deadline.seconds:g} s and were stopped",
            remedy="see pytest.log for the last test; raise `tests.timeout` if it is only slow",
            verdict=Verdict.FAILED,
        )
    counts = junit.read_counts(results)
    is_empty = counts is not None and sum(counts) == 0
    if (command.is_pytest and code == NO_TESTS_COLLECTED) or (is_empty and code in {0, NO_TESTS_COLLECTED}):
        raise NoTestsError(f"no tests were collected: {words}", remedy="check the paths and -k or -m of the command")
    if code < 0 or code in NOT_STARTED or (command.is_pytest and not _is_verdict(code, counts)):
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        why = REASONS.get(code, _missing(results) if counts is None and code >= 0 else "")
        said = ": ".join(filter(None, (why, _last_complaint(artifacts / TESTS_LOG) or words)))
        raise NoVerdictError(f"the tests ended without a verdict ({ended}): {said}", remedy="see pytest.log")
    if counts is None:  # a program of another kind: how it ended is all that it says
        kind = "failure" if code else None
        if not results.exists():
            message = f"it ended with {code}"
            junit.write_single(results, name=words, seconds=deadline.elapsed, kind=kind, message=message)
        counts = junit.Counts(passed=int(not code), failed=int(bool(code)), errors=0, skipped=0)
    return PytestResult(
        exit_code=code,
        junit=str(results),
        passed=max(0, counts.passed - _reruns(artifacts / NOTES)),
        failed=counts.failed,
        errors=counts.errors,
        skipped=counts.skipped,
        duration=round(deadline.elapsed, 3),
    )


def _reruns(notes: Path) -> int:
    """Return the attempts that were not a test's last one; pytest's file counts each as a test that has passed."""
    return sum(isinstance(event, CaseFinished) and event.outcome == "rerun" for event in read_events(notes))


def _last_complaint(log: Path) -> str:
    """Return the last error that pytest tells of itself, such as a path that is not there."""
    with suppress(OSError):
        return next((line for line in reversed(last_lines(log)) if COMPLAINT.match(line)), "")
    return ""


def _missing(results: Path) -> str:
    if results.exists():
        return "its JUnit file is cut off; is the disk full?"
    return "it left no JUnit file; is pytest installed there?"


def _is_verdict(code: int, counts: junit.Counts | None) -> bool:
    """Tell whether pytest came to a verdict; with 2 it ends when a test file cannot be imported, the change's fault."""
    return counts is not None and (code in {0, 1} or (code == 2 and counts.errors > 0))


def _check_device_manager(profile: Profile, dm: DeviceManager, result: PytestResult, target: Target | None) -> None:
    """Raise when the device or its platform is gone: what tests say then, green or red, is not of the product."""
    try:
        check_answers(dm.backend)
        with open_target(profile, target) as shell:
            watcher = Watcher(dm, shell)
            if watcher.look(0.0, echo=False).alive:
                return
            watcher.skip_to_end()
            watcher.look(0.0, echo=False)  # for its last words
            what, remedy, verdict = "the device manager ended", "", Verdict.BENCH_ERROR
            seen = f"its last log line: {watcher.tail[-1] if watcher.tail else 'nothing'!r}"
    except (TargetError, BackendError) as error:
        lost = "the platform" if error.verdict == Verdict.BACKEND_ERROR else "the board"
        what, seen, remedy, verdict = f"{lost} was lost", error.args[0], error.remedy, error.verdict
    raise NoVerdictError(
        f"{what} while the tests ran ({_counts(result)}): {seen}",
        remedy=remedy or "see device-manager.log",
        verdict=verdict,
    )


def _counts(result: PytestResult) -> str:
    return f"{result.passed} passed, {result.failed + result.errors} failed"
