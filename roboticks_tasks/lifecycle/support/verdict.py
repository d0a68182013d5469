"""What a run says in the end: verdict, exit code and one sentence. The first that applies decides."""

from __future__ import annotations

from typing import NamedTuple

from roboticks_tasks.errors import (
    EXIT_BUG,
    EXIT_PASSED,
    EXIT_TEARDOWN_INCOMPLETE,
    EXIT_TESTS_FAILED,
    Cancelled,
    RoboticksError,
    Verdict,
)
from roboticks_tasks.models import StepResult
from roboticks_tasks.state import RunState


class Judgement(NamedTuple):
    """The verdict with its exit code, and why."""

    verdict: Verdict
    exit_code: int
    reason: str


def step_result(name: str, duration: float, error: BaseException | None = None) -> StepResult:
    """Return how a step ended; duration in seconds."""
    duration = round(duration, 3)
    if error is None:
        return StepResult(name=name, outcome="ok", duration=duration)
    if isinstance(error, Cancelled):
        code, verdict, reason = error.exit_code, Verdict.CANCELLED, f"cancelled by {error}"
        return StepResult(
            name=name, outcome="cancelled", duration=duration, error=reason, exit_code=code, verdict=verdict
        )
    if isinstance(error, RoboticksError):
        code, verdict, reason = error.exit_code, error.verdict, str(error)
    else:
        reason = f"a bug in roboticks-tasks: {type(error).__name__}: {error}; please report it"
        code, verdict = EXIT_BUG, Verdict.BENCH_ERROR
    return StepResult(name=name, outcome="failed", duration=duration, error=reason, exit_code=code, verdict=verdict)


def judge(run: RunState, *, signal_number: int | None = None) -> Judgement:
    """Return the judgement: signal, then the first failing step, then the tests, then teardown."""
    if signal_number is not None:
        cancelled = Cancelled(signal_number)
        return Judgement(Verdict.CANCELLED, cancelled.exit_code, f"cancelled by {cancelled}")
    for step in run.steps:
        if step.outcome != "ok":
            return Judgement(Verdict(step.verdict or Verdict.BENCH_ERROR), step.exit_code, step.error or step.name)
    tests = run.tests
    if tests is not None and not tests.ok:
        broken = tests.failed + tests.errors
        return Judgement(Verdict.FAILED, EXIT_TESTS_FAILED, f"{broken} of {broken + tests.passed} tests failed")
    if run.teardown is not None and not run.teardown.ok:
        parts = "; ".join(f"{part.name}: {part.detail}" for part in run.teardown.parts if not part.ok)
        return Judgement(Verdict.BENCH_ERROR, EXIT_TEARDOWN_INCOMPLETE, f"tests passed, teardown did not: {parts}")
    return Judgement(Verdict.PASSED, EXIT_PASSED, f"{tests.passed} tests passed" if tests else "no step failed")
