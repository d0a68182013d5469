"""What a run says in the end: verdict, exit code and one sentence. The first that applies decides."""

from __future__ import annotations

from typing import NamedTuple

from roboticks_tasks.errors import (
    EXIT_BUG,
    EXIT_KILLED,
    EXIT_PASSED,
    EXIT_TEARDOWN_INCOMPLETE,
    EXIT_TESTS_FAILED,
    Cancelled,
    NoVerdictError,
    RoboticksError,
    Verdict,
)
from roboticks_tasks.models import PytestResult, StepResult
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
        code, verdict, reason, remedy = error.exit_code, error.verdict, str(error), error.remedy or None
    else:
        reason = f"a bug in roboticks-tasks: {type(error).__name__}: {error}; please report it"
        code, verdict, remedy = EXIT_BUG, Verdict.BENCH_ERROR, None
    return StepResult(
        name=name,
        outcome="failed",
        duration=duration,
        error=reason,
        remedy=remedy,
        exit_code=code,
        verdict=verdict,
    )


def killed_step(name: str | None) -> StepResult:
    """Return the result of the step that had begun when its process was killed, or of the run between two of them."""
    reason = f"the run was killed {f'during {name}' if name else 'between its steps'}"
    return StepResult(
        name=name or "run",
        outcome="cancelled",
        duration=0,
        error=reason,
        exit_code=EXIT_KILLED,
        verdict=Verdict.CANCELLED,
    )


def judge(run: RunState) -> Judgement:
    """Return the judgement: signal, then the first failing step, then the tests, then teardown.

    What teardown could not confirm is part of the reason, whatever decides, once there was something to stop.
    """
    torn_down = next((step for step in run.steps if step.name == "teardown"), None)
    judgement = _judge(run, torn_down)
    problem = _describe_teardown(run, torn_down)
    begun = any(step.name == "launch_dm" for step in run.steps)
    if problem and begun and judgement.exit_code != EXIT_TEARDOWN_INCOMPLETE:
        return judgement._replace(reason=f"{judgement.reason}; and teardown failed: {problem}")
    return judgement


def _judge(run: RunState, torn_down: StepResult | None) -> Judgement:
    if run.signal is not None:
        cancelled = Cancelled(run.signal)
        return Judgement(Verdict.CANCELLED, cancelled.exit_code, f"cancelled by {cancelled}")
    for step in run.steps:
        if step.outcome != "ok" and step is not torn_down:
            return Judgement(Verdict(step.verdict or Verdict.BENCH_ERROR), step.exit_code, step.error or step.name)
    if run.tests is None:
        return Judgement(Verdict.CONFIG_ERROR, NoVerdictError.exit_code, "no tests were run")
    if not run.tests.ok:
        return Judgement(Verdict.FAILED, EXIT_TESTS_FAILED, _count_failures(run.tests))
    passed = _count_passed(run.tests)
    problem = _describe_teardown(run, torn_down)
    if problem:
        return Judgement(Verdict.BENCH_ERROR, EXIT_TEARDOWN_INCOMPLETE, f"{passed}, but teardown failed: {problem}")
    return Judgement(Verdict.PASSED, EXIT_PASSED, passed)


def _count_failures(tests: PytestResult) -> str:
    broken = tests.failed + tests.errors
    if broken:
        return f"{broken} of {broken + tests.passed} tests failed"
    return f"{_count_passed(tests)}, but the test command ended with {tests.exit_code}"


def _count_passed(tests: PytestResult) -> str:
    skipped = f", {tests.skipped} skipped" if tests.skipped else ""
    return f"{tests.passed} {'test' if tests.passed == 1 else 'tests'} passed{skipped}"


def _describe_teardown(run: RunState, step: StepResult | None) -> str:
    if step is not None and step.outcome != "ok":
        return step.error or "it was broken off"
    parts = run.teardown.parts if run.teardown is not None else ()
    return "; ".join(f"{part.name}: {part.detail}" for part in parts if not part.ok)
