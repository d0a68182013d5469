"""pytest_session: the tests run against the device and leave a verdict."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from roboticks_tasks.errors import NoTestsError, NoVerdictError, Verdict
from roboticks_tasks.lifecycle.support import junit
from roboticks_tasks.lifecycle.support.command import Program, parse_command
from roboticks_tasks.lifecycle.support.group import run_group
from roboticks_tasks.lifecycle.support.sightings import Watcher
from roboticks_tasks.models import DeviceManager, PytestResult, Session
from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets import Target, open_target
from roboticks_tasks.waiting import Deadline

NO_TESTS_COLLECTED = 5
"""pytest's exit code for an empty run."""

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
) -> PytestResult:
    """Run the profile's test command, with `args` appended, against the device of `session`.

    `artifacts` is the run's folder: `results.xml` and `pytest.log` are written there, and the pytest plugin reads the
    run from it. `timeout` is in seconds, by default the profile's. Failing tests are a result, unless the device
    manager `dm` died while they ran: then the bench is to blame, and NoVerdictError says so. Raises NoTestsError when
    nothing was collected and NoVerdictError when the command cannot run, is stopped by the time limit, or ends without
    a verdict; `results.xml` is there in every case.
    """
    results = artifacts.absolute() / "results.xml"
    results.unlink(missing_ok=True)
    deadline = Deadline(profile.tests.timeout if timeout is None else timeout)
    try:
        command = parse_command(profile.tests.command, args=args, junit=results)
        command.junit.unlink(missing_ok=True)  # a crash must not be read as yesterday's green
        code = _run(command, session, artifacts, deadline)
        if command.junit != results and command.junit.is_file():
            shutil.copyfile(command.junit, results)
        result = _judge(command, code, results, deadline)
        if dm is not None and not result.ok:
            _blame_the_bench(profile, dm, result, target)
        return result
    except (NoVerdictError, NoTestsError) as error:
        if junit.read_counts(results) is None:
            message = str(error)
            junit.write_single(results, name="tests", seconds=deadline.elapsed, kind="error", message=message)
        raise


# pytest takes a conftest.py's names that begin with `pytest_` for hooks and dies on those it does not know.
pytest_session.pytest_impl = {"optionalhook": True}  # type: ignore[attr-defined]


def _run(command: Program, session: Session, artifacts: Path, deadline: Deadline) -> int | None:
    given = os.environ.get("PYTEST_ADDOPTS", "")
    ours = command.environment.get("PYTEST_ADDOPTS", "")
    environment = {
        **os.environ,
        "PYTEST_ADDOPTS": f"{given} {ours}".strip(),
        "ROBOTICKS_RUN": str(artifacts.absolute()),
        "ROBOTICKS_DSN": session.dsn,
        "ROBOTICKS_SESSION_ID": session.id,
    }
    try:
        return run_group(command.argv, environment=environment, log_file=artifacts / "pytest.log", deadline=deadline)
    except FileNotFoundError:
        return 127
    except PermissionError:
        return 126


def _judge(command: Program, code: int | None, results: Path, deadline: Deadline) -> PytestResult:
    words = " ".join(command.argv)
    if code is None:
        raise NoVerdictError(
            f"the tests did not end within {deadline.seconds:g} s and were stopped: {words}",
            remedy="see pytest.log for the last test; raise `tests.timeout` if it is only slow",
            verdict=Verdict.FAILED,
        )
    counts = junit.read_counts(results)
    if code == NO_TESTS_COLLECTED and (command.is_pytest or (counts is not None and sum(counts) == 0)):
        raise NoTestsError(f"no tests were collected: {words}", remedy="check the paths and -k or -m of the command")
    # pytest ends with 2 when a test file cannot be imported: that is the change's fault, and in the JUnit file.
    broken_tests = code == 2 and counts is not None and counts.errors > 0
    if counts is None and not command.is_pytest and code in {0, 1}:
        kind = "failure" if code else None
        junit.write_single(results, name=words, seconds=deadline.elapsed, kind=kind, message=f"it ended with {code}")
        counts = junit.read_counts(results)
    if counts is None or not (code in {0, 1} or broken_tests):
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        why = REASONS.get(code, "it left no JUnit file; is pytest installed there?" if counts is None else "unexpected")
        raise NoVerdictError(f"the tests ended without a verdict ({ended}): {why}: {words}", remedy="see pytest.log")
    return PytestResult(
        exit_code=code,
        junit=str(results),
        passed=counts.passed,
        failed=counts.failed,
        errors=counts.errors,
        skipped=counts.skipped,
        duration=round(deadline.elapsed, 3),
    )


def _blame_the_bench(profile: Profile, dm: DeviceManager, result: PytestResult, target: Target | None) -> None:
    """Raise when the device manager is gone: tests that failed without a device say nothing of the product."""
    with open_target(profile, target) as shell:
        watcher = Watcher(dm, shell)
        if not watcher.look(0.0, echo=False).alive:
            raise NoVerdictError(
                f"the device manager ended while the tests ran, {result.failed + result.errors} of them failed: "
                f"{watcher.describe()}",
                remedy="see device-manager.log",
                verdict=Verdict.BENCH_ERROR,
            )
