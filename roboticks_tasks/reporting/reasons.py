"""What ended a run, in the words of its record: the reason and the remedy apart, and what a teardown has left."""

from __future__ import annotations

import re
import shlex

from roboticks_tasks.models import StepResult
from roboticks_tasks.reporting.signs import quote
from roboticks_tasks.reporting.values import Case, Finished, Line
from roboticks_tasks.reporting.words import harmless

LONGEST = 600
"""Characters of a reason: it has what was wanted, and what was last seen."""

SELF_EVIDENT = {"run", "connect", "pytest_session"}
"""Steps that what they say needs no name of."""

STOPPED = re.compile(r"stopped by SIG[A-Z0-9]+")
"""What our plugin says of a test that a signal broke off."""

RECOGNISED = 40
"""Characters at either end of a line by which it is known in a reason that quotes it."""


def broken(finished: Finished) -> list[Case]:
    """Return the tests that did not pass and were to."""
    return [case for case in finished.cases if case.outcome in {"failed", "error"}]


def broken_off(finished: Finished) -> Case | None:
    """Return the test that ran when the tests were stopped, or died."""
    return next((case for case in reversed(finished.cases) if is_broken_off(case)), None)


def is_broken_off(case: Case) -> bool:
    """Tell whether a test began and did not come to an end of its own."""
    return (case.begin is not None and case.end is None) or bool(STOPPED.fullmatch(case.message))


def failing_step(finished: Finished) -> StepResult | None:
    """Return the step that ended the run; a teardown does not."""
    return next((step for step in finished.result.steps if step.outcome == "failed" and step.name != "teardown"), None)


def reason(finished: Finished) -> str:
    """Return why the run ended, with the step that it broke, without what to try."""
    step = failing_step(finished)
    if step is None or not step.error:
        return harmless(finished.result.reason, LONGEST)
    why = harmless(step.error.removesuffix(f"; {step.remedy}"), LONGEST)
    return why if step.name in SELF_EVIDENT else f"{step.name} failed: {why}"


def remedy(finished: Finished) -> str:
    """Return what the step that ended the run says to try, or nothing."""
    step = failing_step(finished)
    return harmless(step.remedy or "", LONGEST) if step is not None else ""


def teardown_problem(finished: Finished) -> str:
    """Return what the teardown could not confirm, or nothing; nor is there a problem where nothing was started."""
    result = finished.result
    if all(step.name != "launch_dm" for step in result.steps):
        return ""
    parts = result.teardown.parts if result.teardown is not None else ()
    problem = "; ".join(f"{part.name}: {part.detail}" for part in parts if not part.ok)
    failed = (step.error or step.outcome for step in result.steps if step.name == "teardown" and step.outcome != "ok")
    return harmless(problem or next(failed, ""), LONGEST)


def added(word: Line | None, why: str) -> str:
    """Return a quotation of `word` that goes on from `why`; nothing where that tells it already."""
    text = harmless(word.text, LONGEST) if word is not None else ""
    if word is None or text[:RECOGNISED] in why or text[-RECOGNISED:] in why:
        return ""
    return f"; {quote(word)}"


def command(finished: Finished, name: str) -> str:
    """Return a command of ours, for the profile of the run."""
    return f"roboticks-tasks {name} --profile {shlex.quote(harmless(finished.result.profile, 200))}"
