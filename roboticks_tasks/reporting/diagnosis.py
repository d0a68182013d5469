"""The question of a red run: is it the change, the test, or the bench? The answer is the first sentence everywhere."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import msgspec

from roboticks_tasks.errors import (
    EXIT_BUG,
    EXIT_KILLED,
    EXIT_REPORT_NOT_WRITTEN,
    EXIT_TEARDOWN_INCOMPLETE,
    Verdict,
)
from roboticks_tasks.reporting.failures import diagnose_tests
from roboticks_tasks.reporting.reasons import (
    LONGEST,
    added,
    broken,
    broken_off,
    command,
    failing_step,
    is_broken_off,
    reason,
    remedy,
    teardown_problem,
)
from roboticks_tasks.reporting.signs import DEVICES, NEAR, Timeline, console_loss, how_lost, worst_word
from roboticks_tasks.reporting.values import Diagnosis, Finished, Line
from roboticks_tasks.reporting.words import count, harmless

FULL_DISK = re.compile(r"No space left on device|is the disk full|does not take what the tests write")

CRASHED = re.compile(r"ended without a verdict \(signal (\d+)\)")

TAIL = 40
"""Lines of each source in which its last word is looked for."""


def diagnose(finished: Finished, timeline: Timeline | None, flaky: Callable[[str], str | None]) -> Diagnosis:
    """Return who is to blame for a run that has not passed, in a sentence or two, and what to do next.

    `flaky` is what the history knows of a test ("failed in 3 of 10 runs of this same commit"), None where it knows
    nothing. Never raises for what a test or a device has said.
    """
    found = _diagnose(finished, timeline, flaky)
    problem = teardown_problem(finished)
    if not problem or finished.result.verdict == Verdict.PASSED or _is_about_teardown(finished):
        return found
    return msgspec.structs.replace(
        found,
        sentence=f"{found.sentence}. The board may not be safe: {problem}",
        advice=f"`{command(finished, 'teardown')}`, then {found.advice}",
    )


def _diagnose(finished: Finished, timeline: Timeline | None, flaky: Callable[[str], str | None]) -> Diagnosis:
    result = finished.result
    if result.exit_code == EXIT_BUG:
        sentence = f"A bug in roboticks-tasks, not the change: {reason(finished)}"
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
            f"{harmless(result.reason, LONGEST)}",
            advice="mend it or its timing: `roboticks-tasks history` says how often it comes and goes",
        )
    if result.exit_code == EXIT_REPORT_NOT_WRITTEN:
        what = f"all tests passed, but a report was not written: {result.reason}"
        sentence = f"The bench's disk is to blame, not the change: {what}"
        return Diagnosis(cause="bench", sentence=harmless(sentence, LONGEST), advice="free space there")
    return Diagnosis(cause="none", sentence=harmless(result.reason, LONGEST))


def _cancelled(finished: Finished) -> Diagnosis:
    result = finished.result
    step = next((each.name for each in result.steps if each.outcome == "cancelled"), None)
    is_killed = result.exit_code == EXIT_KILLED
    what = "The run was killed" if is_killed else f"The run was cancelled by {_name(result.exit_code - 128)}"
    during = f" during {step}" if step not in {None, "run"} else ""
    running = broken_off(finished)
    there = f", in {harmless(running.nodeid)}" if running is not None else ""
    failed = [case for case in broken(finished) if not is_broken_off(case)]
    although = f", although {count(len(failed), 'test')} had failed" if failed else ""
    sentence = f"{what}{during}{there}: it says nothing about the change{although}"
    return Diagnosis(cause="cancelled", sentence=sentence, advice="run it again")


def _platform(finished: Finished, timeline: Timeline | None) -> Diagnosis:
    word = _last_word(timeline, ("platform",))
    first = f"{remedy(finished)}; " if remedy(finished) else ""
    return Diagnosis(
        cause="platform",
        sentence=f"The platform is to blame, not the change: {reason(finished)}{_first_failure(finished)}",
        advice=f"{first}`{command(finished, 'doctor')}` tries the way to it; run again when it answers",
        evidence=(word,) if word is not None else (),
    )


def _profile(finished: Finished) -> Diagnosis:
    why, step = reason(finished), failing_step(finished)
    if FULL_DISK.search(finished.result.reason):
        return Diagnosis(
            cause="bench", sentence=f"The bench's disk is to blame, not the change: {why}", advice="free space there"
        )
    if crashed := CRASHED.search(finished.result.reason):
        running = broken_off(finished)
        there = f" in {harmless(running.nodeid)}" if running is not None else ""
        sentence = f"The test process itself crashed{there}, not the device: it ended by {_name(int(crashed[1]))}"
        return Diagnosis(cause="test", sentence=sentence, advice="see the end of pytest.log")
    what = "The tests' command" if step and step.name == "pytest_session" else "The profile or the command line"
    advice = remedy(finished) or f"`{command(finished, 'doctor')}` checks the profile"
    return Diagnosis(cause="profile", sentence=f"{what}, not the change: {why}", advice=advice)


def _bench(finished: Finished, timeline: Timeline | None) -> Diagnosis:
    board = f" ({harmless(finished.result.board_id, 80)})" if finished.result.board_id else ""
    why, said, word = reason(finished), "", None
    advice = f"`{command(finished, 'doctor')}` says what is wrong with it"
    if _is_about_teardown(finished):
        advice = f"`{command(finished, 'teardown')}` again; if that does not help, {advice}"
    else:
        word = _console_loss(finished, timeline)
        if word is not None and (how := harmless(how_lost(word))) not in why:
            why = f"its console was lost ({how}); {why}"
        elif word is None:
            word = _last_word(timeline, DEVICES)
            said = added(word, why)
        advice = f"{remedy(finished)}; {advice}" if remedy(finished) else advice
    return Diagnosis(
        cause="bench",
        sentence=f"The bench{board} is to blame, not the change: {why}{said}{_first_failure(finished)}",
        advice=advice,
        evidence=(word,) if word is not None else (),
    )


def _name(number: int) -> str:
    return signal.Signals(number).name if number in {each.value for each in signal.Signals} else f"signal {number}"


def _is_about_teardown(finished: Finished) -> bool:
    return finished.result.exit_code == EXIT_TEARDOWN_INCOMPLETE


def _first_failure(finished: Finished) -> str:
    """Return the test under which it broke, where that was under the tests."""
    step, cases = failing_step(finished), broken(finished)
    if step is None or step.name != "pytest_session" or not cases:
        return ""
    return f"; the first test that failed was {harmless(cases[0].nodeid)}"


def _console_loss(finished: Finished, timeline: Timeline | None) -> Line | None:
    if timeline is None or failing_step(finished) is None:
        return None
    return console_loss(timeline.tail("console", TAIL))


def _last_word(timeline: Timeline | None, sources: tuple[str, ...]) -> Line | None:
    """Return the last word that explains something, of those that were said in the last seconds."""
    if timeline is None:
        return None
    lines = [line for source in DEVICES if source in sources for line in timeline.tail(source, TAIL)]
    if not lines:
        return None
    end = max(line.at for line in lines)
    return worst_word((line for line in lines if line.at > end - 2 * NEAR), at=end)
