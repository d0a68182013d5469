"""The run's own steps as a JUnit suite: what CI shows where no test could say anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple
from xml.etree import ElementTree

from roboticks_tasks.errors import Verdict
from roboticks_tasks.models import RunResult, StepResult
from roboticks_tasks.reporting.layout import OUTCOMES, Counts
from roboticks_tasks.state import RunState

SUITE = "roboticks_tasks.lifecycle"

STEPS = (
    "ensure_board",
    "ensure_binary",
    "ensure_backend",
    "launch_dm",
    "await_dsn",
    "await_session",
    "deploy",
    "pytest_session",
    "teardown",
)
"""The steps of a whole run, in order."""

ILLEGAL = dict.fromkeys(
    ({*range(32), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF} - {9, 10, 13}), "\N{REPLACEMENT CHARACTER}"
)
"""Characters that XML 1.0 cannot hold, however they are escaped."""

LONGEST = 65_536
"""Characters of a message: what a device says of itself may have no end."""


class StepCase(NamedTuple):
    """A step as a test case: passed where `kind` is None."""

    name: str
    seconds: float = 0.0
    kind: Literal["failure", "error", "skipped"] | None = None
    message: str = ""


def step_cases(result: RunResult, *, lost: str | None = None) -> tuple[StepCase, ...]:
    """Return a case for each step, whether it ran or not.

    A run that has not passed has one here that says so, unless a test does; `lost` is what is not whole of the tests'
    own file. `failure` blames the product alone.
    """
    ran = {step.name: step for step in result.steps}
    cases = [_case(ran[name], result) if name in ran else _never_ran(name) for name in STEPS]
    cases += [_case(step, result) for name, step in ran.items() if name not in STEPS]
    failing = result.tests is not None and result.tests.failed + result.tests.errors > 0
    if result.verdict != Verdict.PASSED and not failing and all(case.kind in {None, "skipped"} for case in cases):
        cases.append(StepCase("run", result.duration, _kind(result.verdict), result.reason))
    if lost is not None:
        kind: Literal["error", "skipped"] = "skipped" if result.verdict == Verdict.PASSED else "error"
        cases.append(StepCase("junit_file", 0.0, kind, lost))
    return tuple(cases)


def counts_of(cases: tuple[StepCase, ...]) -> Counts:
    """Return how many cases there are of each kind."""
    kinds = [sum(case.kind == kind for case in cases) for kind in OUTCOMES]
    return Counts(len(cases) - sum(kinds), *kinds)


def suite_element(cases: tuple[StepCase, ...], result: RunResult, state: RunState | None) -> ElementTree.Element:
    """Return the suite, with what is known of the run as its properties."""
    counts = counts_of(cases)
    suite = ElementTree.Element(
        "testsuite",
        name=SUITE,
        tests=str(sum(counts)),
        failures=str(counts.failed),
        errors=str(counts.errors),
        skipped=str(counts.skipped),
        time=timed(result.duration),
        timestamp=legal(result.started_at),
    )
    holder = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(result, state):
        ElementTree.SubElement(holder, "property", name=f"roboticks_tasks.{name}", value=legal(value))
    for each in cases:
        case = ElementTree.SubElement(
            suite, "testcase", classname=SUITE, name=legal(each.name), time=timed(each.seconds)
        )
        if each.kind is not None:
            ElementTree.SubElement(case, each.kind, message=legal(each.message))
    return suite


def legal(text: str) -> str:
    """Return `text` as XML can hold it, cut."""
    return text[:LONGEST].translate(ILLEGAL)


def timed(value: float) -> str:
    """Return a time as the schema wants it: no sign and no exponent, whatever a clock said."""
    return f"{max(0.0, value):.3f}"


def _case(step: StepResult, result: RunResult) -> StepCase:
    if step.outcome != "ok":
        kind = _kind(step.verdict or Verdict.BENCH_ERROR)
        return StepCase(step.name, step.duration, kind, step.error or step.outcome)
    tests = result.tests
    if step.name == "pytest_session" and tests is not None and not tests.ok and not tests.failed + tests.errors:
        return StepCase(step.name, step.duration, "failure", f"the test command ended with {tests.exit_code}")
    return StepCase(step.name, step.duration)


def _never_ran(name: str) -> StepCase:
    return StepCase(name, 0.0, "skipped", "it did not run")


def _kind(verdict: str) -> Literal["failure", "error"]:
    return "failure" if verdict == Verdict.FAILED else "error"


def _properties(result: RunResult, state: RunState | None) -> Iterator[tuple[str, str]]:
    compositions = result.compositions
    deployment = state.deployment if state is not None else None
    mode = deployment.mode if deployment is not None else next((each.mode for each in compositions), None)
    known = {
        "run": result.run_id,
        "profile": result.profile,
        "board": result.board_id or (state.board_id if state is not None else None),
        "dsn": result.dsn,
        "session": result.session_id,
        "composition": ",".join(each.name for each in compositions),
        "mode": mode,
        "commit": result.provenance.commit,
        "verdict": result.verdict,
        "exit_code": str(result.exit_code),
    }
    for name, value in known.items():
        if value:
            yield name, value
