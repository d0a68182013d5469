"""The question of a red run: is it the change, the test, or the bench? The answer is the first sentence everywhere."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Callable

from roboticks_tasks.errors import EXIT_BUG, EXIT_KILLED, EXIT_REPORT_NOT_WRITTEN, Verdict
from roboticks_tasks.models import StepResult
from roboticks_tasks.reporting.failures import broken, diagnose_tests
from roboticks_tasks.reporting.signs import DEVICES, NEAR, Timeline, console_loss, quote, worst_word
from roboticks_tasks.reporting.values import Diagnosis, Finished, Line
from roboticks_tasks.reporting.words import count, harmless

REASON = 600
"""Characters of a reason: it has what was wanted, what was last seen, and what to try."""

FULL_DISK = re.compile(r"No space left on device|is the disk full|does not take what the tests write")

TAIL = 40
"""Lines of each source in which its last word is looked for."""


def diagnose(finished: Finished, timeline: Timeline | None, flaky: Callable[[str], str | None]) -> Diagnosis:
    """Return who is to blame for a run that has not passed, in a sentence or two, and what to do next.

    `flaky` is what the history knows of a test ("failed in 3 of 10 runs of this same commit"), None where it knows
    nothing. Never raises for what a test or a device has said.
    """
    result = finished.result
    if result.exit_code == EXIT_BUG:
        sentence = f"A bug in roboticks-tasks, not the change: {_reason(finished)}"
        return Diagnosis(cause="bug", sentence=sentence, advice="report it, with the run's folder")
    if result.verdict == Verdict.CANCELLED:
        return _cancelled(finished)
    if result.verdict == Verdict.PASSED:
        return _passed(finished)
    if result.verdict == Verdict.BACKEND_ERROR:
        return _platform(finished, timeline)
    if result.verdict == Verdict.CONFIG_ERROR:
        return _profile(finished)
    if result.verdict == Verdict.FAILED:
        return diagnose_tests(finished, timeline, flaky)
    return _bench(finished, timeline)


def _passed(finished: Finished) -> Diagnosis:
    result = finished.result
    shaky = [case for case in finished.cases if case.attempts > 1]
    if shaky:
        first = shaky[0]
        more = f" (and {len(shaky) - 1} more)" if len(shaky) > 1 else ""
        return Diagnosis(
            cause="test",
            sentence=f"The test {harmless(first.nodeid)} is flaky: it passed only at attempt {first.attempts}{more}; "
            f"{harmless(result.reason, REASON)}",
            advice="mend it or its timing: `roboticks-tasks history` says how often it comes and goes",
        )
    if result.exit_code == EXIT_REPORT_NOT_WRITTEN:
        what = f"all tests passed, but a report was not written: {result.reason}"
        sentence = f"The bench's disk is to blame, not the change: {what}"
        return Diagnosis(cause="bench", sentence=harmless(sentence, REASON), advice="free space there")
    return Diagnosis(cause="none", sentence=harmless(result.reason, REASON))


def _cancelled(finished: Finished) -> Diagnosis:
    result = finished.result
    step = next((each.name for each in result.steps if each.outcome == "cancelled"), None)
    number = result.exit_code - 128
    if result.exit_code == EXIT_KILLED:
        what = "The run was killed"
    else:
        name = signal.Signals(number).name if number in {each.value for each in signal.Signals} else f"signal {number}"
        what = f"The run was cancelled by {name}"
    during = f" during {step}" if step not in {None, "run"} else ""
    failed = broken(finished)
    begun = f"; {count(len(failed), 'test')} had failed before" if failed else ""
    sentence = f"{what}{during}{begun}: it says nothing about the change"
    problem = _teardown_problem(finished)
    if problem:
        sentence += f". The board may not be safe: {problem}"
        return Diagnosis(cause="cancelled", sentence=sentence, advice=f"`{_command(finished, 'teardown')}`")
    return Diagnosis(cause="cancelled", sentence=sentence, advice="run it again")


def _platform(finished: Finished, timeline: Timeline | None) -> Diagnosis:
    word = _last_word(timeline, ("platform",))
    sentence = f"The platform is to blame, not the change: {_reason(finished)}"
    return Diagnosis(
        cause="platform",
        sentence=sentence,
        advice=f"`{_command(finished, 'doctor')}` tries the way to it; run again when it answers",
        evidence=(word,) if word is not None else (),
    )


def _profile(finished: Finished) -> Diagnosis:
    reason = _reason(finished)
    if FULL_DISK.search(finished.result.reason):
        return Diagnosis(
            cause="bench", sentence=f"The bench's disk is to blame, not the change: {reason}", advice="free space there"
        )
    if "ended without a verdict (signal" in finished.result.reason:
        running = _unended(finished)
        sentence = f"The test process itself crashed{running}, not the device: {reason}"
        return Diagnosis(cause="test", sentence=sentence, advice="see the end of pytest.log")
    sentence = f"The profile or the command line, not the change: {reason}"
    return Diagnosis(cause="profile", sentence=sentence, advice=f"`{_command(finished, 'doctor')}` checks the profile")


def _bench(finished: Finished, timeline: Timeline | None) -> Diagnosis:
    board = f" ({harmless(finished.result.board_id, 80)})" if finished.result.board_id else ""
    loss = _console_loss(finished, timeline)
    word = loss or _last_word(timeline, DEVICES)
    reason = _reason(finished)
    said = ""
    if loss is not None:
        reason = f"its console was lost, {harmless(loss.text.removeprefix('--- '))!r}; {reason}"
    elif word is not None and harmless(word.text, 40).rstrip("…") not in reason:
        said = f"; {quote(word)}"
    problem = _teardown_problem(finished)
    advice = f"`{_command(finished, 'doctor')}` says what is wrong with it"
    if problem and finished.result.exit_code == 17:
        advice = f"`{_command(finished, 'teardown')}`, then {advice}"
    return Diagnosis(
        cause="bench",
        sentence=f"The bench{board} is to blame, not the change: {reason}{said}",
        advice=advice,
        evidence=(word,) if word is not None else (),
    )


def _reason(finished: Finished) -> str:
    """Return the reason with the step that it broke."""
    step = _failing_step(finished)
    reason = harmless(finished.result.reason, REASON)
    return f"{step.name} failed: {reason}" if step is not None and step.name not in {"run", "connect"} else reason


def _failing_step(finished: Finished) -> StepResult | None:
    return next((step for step in finished.result.steps if step.outcome == "failed"), None)


def _teardown_problem(finished: Finished) -> str:
    parts = finished.result.teardown.parts if finished.result.teardown is not None else ()
    return harmless("; ".join(f"{part.name}: {part.detail}" for part in parts if not part.ok), REASON)


def _unended(finished: Finished) -> str:
    case = next((case for case in reversed(finished.cases) if case.begin is not None and case.end is None), None)
    return f" in {harmless(case.nodeid)}" if case is not None else ""


def _command(finished: Finished, command: str) -> str:
    return f"roboticks-tasks {command} --profile {shlex.quote(harmless(finished.result.profile, 200))}"


def _console_loss(finished: Finished, timeline: Timeline | None) -> Line | None:
    if timeline is None:
        return None
    return console_loss(timeline.tail("console", TAIL)) if _failing_step(finished) is not None else None


def _last_word(timeline: Timeline | None, sources: tuple[str, ...]) -> Line | None:
    """Return the last word that explains something, of those that were said in the last seconds."""
    if timeline is None:
        return None
    lines = [line for source in DEVICES if source in sources for line in timeline.tail(source, TAIL)]
    if not lines:
        return None
    end = max(line.at for line in lines)
    return worst_word((line for line in lines if line.at > end - 2 * NEAR), at=end)
