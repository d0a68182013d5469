"""The first sentence of every report: the change, the test, the bench, or who else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboticks_tasks.models import RunResult, TeardownPart, TeardownReport
from roboticks_tasks.reporting.diagnosis import diagnose
from roboticks_tasks.reporting.values import Case, Diagnosis, Finished, Level, Line, Source
from tests.unit.junit_files import BEGIN, a_result, counted, up_to

RED = a_result("failed", 1, "1 of 2 tests failed", tests=counted(passed=1, failed=1), board_id="lab-7")


LOST = TeardownReport(parts=(TeardownPart(name="power", ok=False, detail="still on", duration=1),))


class Said:
    """A timeline of a few lines."""

    def __init__(self, *lines: Line) -> None:
        self.lines = sorted(lines, key=lambda line: line.at)

    def slice_of(self, nodeid: str, *, most: int = 100) -> Sequence[Line]:
        return self.lines[-most:]

    def span(self, begin: float, end: float, *, most: int) -> Sequence[Line]:
        return [line for line in self.lines if begin <= line.at <= end][-most:]

    def tail(self, source: Source, count: int) -> Sequence[Line]:
        return [line for line in self.lines if line.source == source][-count:]


def line(text: str, source: Source = "device", at: float = 10.0, level: Level | None = None) -> Line:
    return Line(at=BEGIN + at, source=source, text=text, level=level)


def case(name: str, outcome: Any = "failed", *, at: float | None = 10.0, message: str = "", **values: Any) -> Case:
    times = {} if at is None else {"begin": BEGIN + at, "end": BEGIN + at + 1}
    return Case(
        nodeid=values.pop("nodeid", f"hil/test_a.py::{name}"),
        classname="hil.test_a",
        name=name,
        outcome=outcome,
        duration=1,
        message=message or ("" if outcome == "passed" else f"{name} is wrong"),
        **{**times, **values},
    )


def diagnosed(result: RunResult, *cases: Case, said: Said | None = None, history: str | None = None) -> Diagnosis:
    return diagnose(Finished(result=result, cases=cases), said, lambda _: history)


def test_nobody_is_to_blame_for_a_run_that_passed() -> None:
    assert diagnosed(a_result(), case("a", "passed")) == Diagnosis(cause="none", sentence="1 test passed")


def test_a_test_that_passed_only_when_run_again_is_flaky_although_the_run_passed() -> None:
    found = diagnosed(a_result(), case("a", "passed"), case("comes_and_goes", "passed", attempts=3))
    assert found.cause == "test"
    assert "comes_and_goes is flaky: it passed only at attempt 3" in found.sentence


def test_the_change_is_to_blame_for_a_test_that_failed_and_the_devices_own_word_is_quoted() -> None:
    said = Said(line("all is well", at=10.2), line("Segmentation\x1b fault (core dumped)", at=10.6), line("bad", at=2))
    found = diagnosed(RED, case("b", "passed"), case("greets", file="hil/test_a.py", line=7), said=said)
    assert found.cause == "change"
    assert found.sentence == (
        "The change is to blame: hil/test_a.py::greets failed (line 7): 'greets is wrong'; "
        "the device said 'Segmentation? fault (core dumped)' 0.4 s before it failed"
    )
    assert found.evidence == (said.lines[-1],)
    assert "-- -k greets" in found.advice


def test_an_error_of_the_device_is_quoted_where_nothing_crashed() -> None:
    said = Said(line("no greeting", level="error"), line("info", level="info"))
    assert "the device said 'no greeting'" in diagnosed(RED, case("a"), said=said).sentence


def test_a_test_that_the_history_knows_is_not_the_changes() -> None:
    word = "failed in 3 of 10 runs of this same commit, on 2 boards"
    found = diagnosed(RED, case("a"), history=word)
    assert (found.cause, word in found.sentence) == ("test", True)


def test_tests_that_the_history_does_not_know_are_the_changes() -> None:
    finished = Finished(result=RED, cases=(case("a"), case("b")))
    found = diagnose(finished, None, lambda nodeid: "failed in 1 of 2 runs" if nodeid.endswith("a") else None)
    assert found.cause == "change"
    assert found.sentence == (
        "The change is to blame: 2 of 2 tests failed for 2 reasons, first hil/test_a.py::b: 'b is wrong'; "
        "1 of them is known to be flaky"
    )


def test_tests_that_fail_alike_from_one_moment_on_are_the_benchs() -> None:
    refused = "ConnectionRefusedError: [Errno 111] Connection refused to port {}"
    cases = [case(f"t{n}", message=refused.format(4000 + n), at=10.0 + n) for n in range(4)]
    found = diagnosed(RED, case("first", "passed", at=1), *cases)
    assert found.cause == "bench"
    assert "all 4 tests failed alike" in found.sentence
    assert "`roboticks-tasks doctor --profile sim`" in found.advice


def test_a_test_whose_fixture_could_not_reach_the_board_is_the_benchs_even_when_it_is_the_only_one() -> None:
    lost = case("test_b", message="roboticks_tasks.errors.TargetError: no answer within 30 s; check the cable")
    found = diagnosed(RED, case("test_a", "passed"), lost)
    assert (found.cause, found.sentence) == (
        "bench",
        "The bench (lab-7) is to blame, not the change: hil/test_a.py::test_b was not tested: no answer within 30 s; "
        "check the cable",
    )
    assert diagnosed(RED, lost, case("test_c", message="assert 'TargetError: ' == ''")).cause == "change"


@pytest.mark.parametrize("last", ["passed", "failed"])
def test_tests_that_fail_differently_or_pass_in_between_are_the_changes(last: str) -> None:
    cases = [case(f"t{n}", message="Connection refused") for n in range(3)]
    later = [case(f"p{n}", last, message="wrong") for n in range(3)]
    assert diagnosed(RED, *cases, *later).cause == "change"


def test_a_board_that_started_anew_is_the_benchs_unless_it_crashed_before() -> None:
    boot = line("U-Boot 2024.01", "console", at=10.5)
    assert diagnosed(RED, case("a"), said=Said(boot)).cause == "bench"
    assert diagnosed(RED, case("a"), said=Said(boot, line("Kernel panic", "console", at=10.2))).cause == "change"


def test_tests_that_all_end_in_the_same_error_share_a_broken_fixture() -> None:
    cases = [case(f"t{n}", "error", message='failed on setup with "KeyError: 1"') for n in range(3)]
    found = diagnosed(RED, *cases)
    assert (found.cause, "all 3 tests" in found.sentence) == ("test", True)


HUNG = Case(nodeid="a.py::hangs", classname="", name="hangs", outcome="error", duration=0, begin=BEGIN)
STOPPED = case("hangs", "skipped", message="stopped by SIGINT")
CRASHED = f"composition A failed: greeter ended with exit code 1: {'a' * 200} KeyError: 1"


def broken_at(step: str, code: int, verdict: str, error: str, remedy: str = "", **values: Any) -> RunResult:
    """Return the result of a run that a step ended, with what it said to try."""
    whole = f"{error}; {remedy}" if remedy else error
    steps = up_to(step, verdict, code, error=whole)
    steps = tuple(msgspec.structs.replace(each, remedy=remedy or None) if each.error else each for each in steps)
    return a_result(verdict, code, whole, steps=steps, board_id="lab-7", **values)


LOST_CONSOLE = broken_at(
    "pytest_session",
    15,
    "bench-error",
    "the console was lost while the tests ran (0 passed, 1 failed): it hung up",
    "check its cable and adapter; see console.log",
)
DIED = broken_at("launch_dm", 11, "bench-error", "the device manager ended; its last words: 'ERROR [link] no uplink'")
LIMIT = broken_at("pytest_session", 15, "failed", "the tests did not end within 5 s and were stopped", "see pytest.log")


@pytest.mark.parametrize(
    ("result", "cases", "said", "sentence", "advice"),
    [
        pytest.param(
            LOST_CONSOLE,
            [case("a")],
            Said(line("--- console lost: it hung up", "console"), line("fatal: no uplink")),
            "The bench (lab-7) is to blame, not the change: the console was lost while the tests ran (0 passed, "
            "1 failed): it hung up; the first test that failed was hil/test_a.py::a",
            "check its cable and adapter; see console.log; `roboticks-tasks doctor --profile sim` says what is wrong "
            "with it",
            id="a console that was lost under the tests",
        ),
        pytest.param(
            broken_at("await_dsn", 12, "bench-error", "no DSN within 2 s", "raise `timeouts.dsn`"),
            [],
            Said(line("--- console lost: it hung up", "console"), line("--- capture ended: gone", "console", at=11)),
            "The bench (lab-7) is to blame, not the change: its console was lost (it hung up); "
            "await_dsn failed: no DSN within 2 s",
            "raise `timeouts.dsn`; `roboticks-tasks doctor --profile sim` says what is wrong with it",
            id="a console that was lost before",
        ),
        pytest.param(
            broken_at("await_dsn", 12, "bench-error", "no DSN within 2 s"),
            [],
            Said(line("--- console lost: x", "console"), line("--- console back", "console"), line("fatal: no uplink")),
            "The bench (lab-7) is to blame, not the change: await_dsn failed: no DSN within 2 s; "
            "the device said 'fatal: no uplink'",
            "`roboticks-tasks doctor --profile sim` says what is wrong with it",
            id="a console that is back",
        ),
        pytest.param(
            DIED,
            [],
            Said(line("ERROR [link] no uplink", level="error"), line("[link] no uplink", "platform", level="error")),
            "The bench (lab-7) is to blame, not the change: launch_dm failed: the device manager ended; "
            "its last words: 'ERROR [link] no uplink'",
            "`roboticks-tasks doctor --profile sim` says what is wrong with it",
            id="a word that the reason has already",
        ),
        pytest.param(
            LIMIT,
            [HUNG],
            None,
            "The change or its test hung in a.py::hangs, which began at 11:06:40 UTC: "
            "the tests did not end within 5 s and were stopped",
            "`roboticks-tasks hil-test --profile sim --keep-on-failure -- -k hangs`",
            id="a test that hung and was killed",
        ),
        pytest.param(
            LIMIT,
            [case("ok", "passed", at=1), STOPPED],
            Said(line("oops", at=11)),
            "The change or its test hung in hil/test_a.py::hangs, which began at 11:06:50 UTC: "
            "the tests did not end within 5 s and were stopped; the device said 'oops'",
            "`roboticks-tasks hil-test --profile sim --keep-on-failure -- -k hangs`",
            id="a test that hung and was interrupted",
        ),
        pytest.param(
            LIMIT,
            [case("ok", "passed")],
            None,
            "The change or its tests are too slow, or hang: the tests did not end within 5 s and were stopped",
            "see pytest.log",
            id="tests that are too slow",
        ),
        pytest.param(
            broken_at("deploy", 14, "failed", f"composition 'A' does not run: {CRASHED}"),
            [],
            Said(line(f"ERROR {CRASHED}", level="error")),
            f"The change does not run: composition 'A' does not run: {CRASHED}",
            "see device-manager.log",
            id="a composition that does not run",
        ),
        pytest.param(
            RED,
            [case("hil.test_x", "error", nodeid="hil/test_x.py", at=None, message="collection failure: KeyError: 1")],
            None,
            "The change or its tests: hil/test_x.py cannot be imported: 'KeyError: 1'",
            "`pytest --collect-only` says it again, without a board",
            id="a test file that cannot be imported",
        ),
        pytest.param(
            RED,
            [case("a", message="E: 1\n  at 0x12"), case("b", message="E: 2"), case("c", message="F")],
            None,
            "The change is to blame: 3 of 3 tests failed for 2 reasons, first hil/test_a.py::a: 'E: 1'",
            "`roboticks-tasks hil-test --profile sim --keep-on-failure -- -k a`",
            id="three tests that failed for two reasons",
        ),
        pytest.param(
            RED,
            [case("a", file="hil/helper.py", line=3, message="Timeout:\n no answer\n  more", attempts=3)],
            Said(line("greeting 5", level="error"), line("greeting 6", level="error", at=11.02)),
            "The change is to blame: hil/test_a.py::a failed in each of its 3 attempts (hil/helper.py:3): "
            "'Timeout: no answer'; the device said 'greeting 5' 1.0 s before it failed",
            "`roboticks-tasks hil-test --profile sim --keep-on-failure -- -k a`",
            id="what came before counts more than what came of it",
        ),
        pytest.param(
            RED,
            [case("a")],
            Said(
                line("motor 3 is too hot", level="error", at=9.5),
                *(line(f"frame {number} is lost", level="error", at=10 + number / 10) for number in range(10)),
            ),
            "The change is to blame: hil/test_a.py::a failed: 'a is wrong'; "
            "the device said 'motor 3 is too hot' 1.5 s before it failed",
            "`roboticks-tasks hil-test --profile sim --keep-on-failure -- -k a`",
            id="what is seldom said counts more than what is said all the time",
        ),
        pytest.param(
            RED,
            [case("a")],
            Said(
                line("Traceback (most recent call last):", at=10.5, level="error"),
                line('  File "a.py", line 1, in <module>', at=10.5),
                line("KeyError: 'speed'", at=10.5),
            ),
            "The change is to blame: hil/test_a.py::a failed: 'a is wrong'; "
            "the device said \"KeyError: 'speed'\" 0.5 s before it failed",
            "`roboticks-tasks hil-test --profile sim --keep-on-failure -- -k a`",
            id="the end of a traceback",
        ),
        pytest.param(
            RED,
            [case(f"t{number}", at=10 + number) for number in range(200)],
            Said(line("U-Boot 2024.01", "console", at=10.5)),
            "The bench (lab-7) is to blame, not the change: the board started anew at 11:06:50 UTC, "
            "and 200 tests failed from then on, first hil/test_a.py::t0",
            "`roboticks-tasks doctor --profile sim`, then run the tests again",
            id="a board that started anew",
        ),
        pytest.param(
            broken_at("pytest_session", 16, "config-error", "no tests were collected: pytest x", "check the paths"),
            [],
            None,
            "The tests' command, not the change: no tests were collected: pytest x",
            "check the paths",
            id="no tests",
        ),
        pytest.param(
            broken_at("pytest_session", 15, "config-error", "the tests ended without a verdict (signal 11): pytest"),
            [HUNG],
            None,
            "The test process itself crashed in a.py::hangs, not the device: it ended by SIGSEGV",
            "see the end of pytest.log",
            id="a test process that crashed",
        ),
        pytest.param(
            a_result("cancelled", 143, "x", steps=up_to("pytest_session", "cancelled", 143, outcome="cancelled")),
            [case("a", at=1), HUNG],
            None,
            "The run was cancelled by SIGTERM during pytest_session, in a.py::hangs: "
            "it says nothing about the change, although 1 test had failed",
            "run it again",
            id="cancelled",
        ),
        pytest.param(
            msgspec.structs.replace(RED, teardown=LOST),
            [case("a")],
            None,
            "The change is to blame: hil/test_a.py::a failed: 'a is wrong'. The board may not be safe: power: still on",
            "`roboticks-tasks teardown --profile sim`, then "
            "`roboticks-tasks hil-test --profile sim --keep-on-failure -- -k a`",
            id="tests failed and so did teardown",
        ),
        pytest.param(
            a_result("bench-error", 17, "1 test passed, but teardown failed: power: still on", teardown=LOST),
            [case("a", "passed")],
            Said(line("greeting 5 is lost", level="error")),
            "The bench is to blame, not the change: 1 test passed, but teardown failed: power: still on",
            "`roboticks-tasks teardown --profile sim` again; if that does not help, "
            "`roboticks-tasks doctor --profile sim` says what is wrong with it",
            id="teardown alone failed",
        ),
    ],
)
def test_the_sentence_is_right_short_and_says_nothing_twice(
    result: RunResult, cases: list[Case], said: Said | None, sentence: str, advice: str
) -> None:
    found = diagnosed(result, *cases, said=said)
    assert (found.sentence, found.advice) == (sentence, advice)


@pytest.mark.parametrize(
    ("result", "cause", "words"),
    [
        (a_result("bench-error", 20, "in use", steps=()), "bench", ["in use"]),
        (a_result("bench-error", 17, "1 passed, but", teardown=LOST), "bench", ["roboticks-tasks teardown"]),
        (a_result("bench-error", 70, "KeyError", steps=()), "bug", ["A bug in roboticks-tasks", "report it"]),
        (
            a_result("backend-error", 11, "refused", steps=()),
            "platform",
            ["The platform is to blame, not the change: refused"],
        ),
        (a_result("config-error", 2, "sim.toml: line 3", steps=()), "profile", ["not the change: sim.toml: line 3"]),
        (a_result("config-error", 2, "x: No space left on device", steps=()), "bench", ["disk", "free space"]),
        (a_result("config-error", 15, "the tests ended without a verdict (signal 11)"), "test", ["crashed"]),
        (a_result("cancelled", 143, "cancelled by signal 15", steps=()), "cancelled", ["by SIGTERM", "run it again"]),
        (a_result("cancelled", 137, "killed", steps=()), "cancelled", ["The run was killed"]),
        (a_result("cancelled", 130, "x", teardown=LOST), "cancelled", ["power: still on", "teardown --profile sim"]),
        (a_result("passed", 18, "disk is full"), "bench", ["a report was not written: disk is full"]),
        (a_result("failed", 1, "but the test command ended with 1", tests=counted(code=1)), "change", ["ended with 1"]),
    ],
)
def test_who_else_is_to_blame(result: RunResult, cause: str, words: list[str]) -> None:
    found = diagnosed(result)
    assert found.cause == cause
    for word in words:
        assert word in f"{found.sentence} {found.advice}"


ANY = st.text(st.characters() | st.sampled_from("\0\x1b\n\u202e\ud800`|<"), max_size=30)


@given(ANY, ANY, st.sampled_from(["failed", "bench-error", "cancelled", "backend-error", "config-error", "passed"]))
def test_whatever_was_said_the_sentence_is_one_line_and_printable(name: str, text: str, verdict: str) -> None:
    result = a_result(verdict, 0 if verdict == "passed" else 1, text, board_id=name)
    found = diagnosed(result, case(name, message=text), said=Said(line(f"fatal {text}"), line(text, "console")))
    assert found.sentence.isprintable()
    assert found.advice.isprintable()
    assert len(found.sentence) < 2_000
