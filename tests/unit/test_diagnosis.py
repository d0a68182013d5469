"""The first sentence of every report: the change, the test, the bench, or who else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboticks_tasks.models import RunResult, TeardownPart, TeardownReport
from roboticks_tasks.reporting.diagnosis import diagnose
from roboticks_tasks.reporting.values import Case, Diagnosis, Finished, Level, Line, Source
from tests.unit.junit_files import BEGIN, a_result, counted, up_to

RED = a_result("failed", 1, "1 of 2 tests failed", tests=counted(passed=1, failed=1), board_id="lab-7")


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
        nodeid=f"hil/test_a.py::{name}",
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
        "The change is to blame: hil/test_a.py::greets failed (hil/test_a.py:7): 'greets is wrong'; "
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
    assert "first hil/test_a.py::b failed" in found.sentence
    assert "1 test among them are known" in found.sentence


def test_tests_that_fail_alike_from_one_moment_on_are_the_benchs() -> None:
    refused = "ConnectionRefusedError: [Errno 111] Connection refused to port {}"
    cases = [case(f"t{n}", message=refused.format(4000 + n), at=10.0 + n) for n in range(4)]
    found = diagnosed(RED, case("first", "passed", at=1), *cases)
    assert found.cause == "bench"
    assert "all 4 tests failed alike" in found.sentence
    assert "`roboticks-tasks doctor --profile sim`" in found.advice


@pytest.mark.parametrize("last", ["passed", "failed"])
def test_tests_that_fail_differently_or_pass_in_between_are_the_changes(last: str) -> None:
    cases = [case(f"t{n}", message="Connection refused") for n in range(3)]
    later = [case(f"p{n}", last, message="wrong") for n in range(3)]
    assert diagnosed(RED, *cases, *later).cause == "change"


def test_a_console_that_was_lost_under_the_tests_is_the_benchs() -> None:
    said = Said(line("--- console lost: Input/output error", "console", at=10.5))
    found = diagnosed(RED, case("a"), said=said)
    assert found.cause == "bench"
    assert "The bench (lab-7) is to blame, not the change: its console was lost at" in found.sentence


def test_what_had_failed_before_the_console_was_lost_is_the_changes() -> None:
    said = Said(line("--- console lost: Input/output error", "console", at=30))
    assert diagnosed(RED, case("a"), case("b", at=30), said=said).cause == "change"


def test_a_board_that_started_anew_is_the_benchs_unless_it_crashed_before() -> None:
    boot = line("U-Boot 2024.01", "console", at=10.5)
    assert diagnosed(RED, case("a"), said=Said(boot)).cause == "bench"
    assert diagnosed(RED, case("a"), said=Said(boot, line("Kernel panic", "console", at=10.2))).cause == "change"


def test_tests_that_all_end_in_the_same_error_share_a_broken_fixture() -> None:
    cases = [case(f"t{n}", "error", message='failed on setup with "KeyError: 1"') for n in range(3)]
    found = diagnosed(RED, *cases)
    assert (found.cause, "all 3 tests" in found.sentence) == ("test", True)


def test_a_test_that_hung_is_named() -> None:
    result = a_result("failed", 15, "did not end within 5 s", steps=up_to("pytest_session", "failed", 15))
    hung = Case(nodeid="a.py::hangs", classname="", name="hangs", outcome="error", duration=0, begin=BEGIN)
    found = diagnosed(result, hung)
    assert (found.cause, "hung in a.py::hangs at " in found.sentence) == ("change", True)


def test_a_composition_that_does_not_run_is_the_changes() -> None:
    result = a_result("failed", 14, "Hello ended", steps=up_to("deploy", "failed", 14))
    found = diagnosed(result, said=Said(line("Traceback (most recent call last)")))
    assert (found.cause, "deploy failed: Hello ended; the device said" in found.sentence) == ("change", True)


LOST = TeardownReport(parts=(TeardownPart(name="power", ok=False, detail="still on", duration=1),))


@pytest.mark.parametrize(
    ("result", "cause", "words"),
    [
        (
            a_result("bench-error", 12, "no DSN", board_id="lab-7", steps=up_to("await_dsn", "bench-error", 12)),
            "bench",
            ["The bench (lab-7) is to blame, not the change: await_dsn failed: no DSN"],
        ),
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


def test_the_last_word_of_a_broken_bench_is_quoted_and_a_lost_console_before_all() -> None:
    result = a_result("bench-error", 12, "no DSN", steps=up_to("await_dsn", "bench-error", 12), board_id="lab-7")
    assert "the device said 'fatal: no uplink'" in diagnosed(result, said=Said(line("fatal: no uplink"))).sentence
    said = Said(line("fatal: no uplink"), line("--- console lost: gone", "console"))
    assert "its console was lost, 'console lost: gone'; await_dsn" in diagnosed(result, said=said).sentence


ANY = st.text(st.characters() | st.sampled_from("\0\x1b\n\u202e\ud800`|<"), max_size=30)


@given(ANY, ANY, st.sampled_from(["failed", "bench-error", "cancelled", "backend-error", "config-error", "passed"]))
def test_whatever_was_said_the_sentence_is_one_line_and_printable(name: str, text: str, verdict: str) -> None:
    result = a_result(verdict, 0 if verdict == "passed" else 1, text, board_id=name)
    found = diagnosed(result, case(name, message=text), said=Said(line(f"fatal {text}"), line(text, "console")))
    assert found.sentence.isprintable()
    assert found.advice.isprintable()
    assert len(found.sentence) < 2_000
