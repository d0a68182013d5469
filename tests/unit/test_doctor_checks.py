"""How doctor runs its checks: whatever a check does, it ends in findings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from roboticks_tasks.doctor.checks import Check, run_check, run_checks, simple
from roboticks_tasks.doctor.findings import Area, Diagnosis, Finding, Outcome, Seen, failed, is_sound, ok, warning
from roboticks_tasks.errors import BoardError, ConfigError


@pytest.fixture
def stuck() -> Iterator[Callable[[], Seen]]:
    """Return a check that hangs until the test is over."""
    over = threading.Event()

    def hang() -> Seen:
        over.wait()
        return ok("too late")

    yield hang
    over.set()


def diagnosis(*found: tuple[Area, Outcome]) -> Diagnosis:
    findings = [
        Finding(name=f"check {n}", area=area, outcome=outcome, detail="") for n, (area, outcome) in enumerate(found)
    ]
    return Diagnosis(profile="bench", boards=("a",), findings=tuple(findings), duration=0.1)


def look(seen: Seen | None, facts: object = None) -> Callable[[], tuple[Seen | None, Any]]:
    return lambda: (seen, facts)


def boom() -> Seen:
    raise ZeroDivisionError("the check has a bug")


def test_a_check_that_hangs_fails_after_its_deadline_and_the_others_are_reported(stuck: Callable[[], Seen]) -> None:
    checks = [simple("a", "board", stuck, deadline=0.05), simple("b", "board", lambda: ok("fine"))]
    first, second = run_checks(checks)
    assert (first.name, first.outcome, first.detail) == ("a", "failed", "no answer within 0.05 s")
    assert first.remedy
    assert (second.name, second.outcome) == ("b", "ok")


def test_what_depends_on_a_check_that_hangs_is_skipped(stuck: Callable[[], Seen]) -> None:
    check: Check[Any] = Check("a", "board", lambda: (stuck(), 1), {"then": lambda facts: ok("judged")}, deadline=0.05)
    assert [each.outcome for each in run_checks([check])] == ["failed", "skipped"]


def test_a_check_that_hangs_does_not_keep_the_interpreter_from_ending(stuck: Callable[[], Seen]) -> None:
    run_checks([simple("a", "board", stuck, deadline=0.05)])
    left = [each for each in threading.enumerate() if each.name == "doctor: a"]
    assert left
    assert all(each.daemon for each in left)


def test_checks_run_side_by_side() -> None:
    meeting = threading.Barrier(2, timeout=20)

    def meet() -> Seen:
        meeting.wait()
        return ok("met")

    assert [each.outcome for each in run_checks([simple("a", "board", meet), simple("b", "board", meet)])] == ["ok"] * 2


def test_findings_keep_the_order_of_the_checks() -> None:
    second_is_done = threading.Event()

    def first() -> Seen:
        second_is_done.wait(20)
        return ok("")

    def second() -> Seen:
        second_is_done.set()
        return ok("")

    found = run_checks([simple("first", "board", first), simple("second", "board", second)])
    assert [each.name for each in found] == ["first", "second"]


def test_an_exception_is_a_failed_finding_that_names_it() -> None:
    [found] = run_check(simple("a", "board", boom), "board-1")
    assert (found.outcome, found.detail) == ("failed", "ZeroDivisionError: the check has a bug")
    assert found.remedy
    assert (found.area, found.board) == ("board", "board-1")


def test_an_error_of_ours_gives_its_sentence_and_its_remedy_apart() -> None:
    def refuse() -> Seen:
        raise BoardError("it is another board", remedy="look at the wiring")

    [found] = run_check(simple("a", "board", refuse))
    assert (found.area, found.detail, found.remedy) == ("board", "it is another board", "look at the wiring")


def test_an_error_without_a_remedy_gets_one() -> None:
    def refuse() -> Seen:
        raise BoardError("it is another board")

    assert run_check(simple("a", "board", refuse))[0].remedy


def test_an_error_of_the_profile_counts_as_this_machines_whatever_showed_it() -> None:
    def refuse() -> Seen:
        raise ConfigError("no secret")

    assert run_check(simple("a", "board", refuse), "board-1")[0].area == "machine"


def test_what_depends_on_a_check_is_judged_by_its_facts() -> None:
    check: Check[int] = Check("a", "board", look(ok(""), 7), {"b": lambda facts: warning(str(facts), "do")})
    assert [(each.name, each.outcome, each.detail) for each in run_check(check)] == [
        ("a", "ok", ""),
        ("b", "warning", "7"),
    ]


def test_what_depends_on_a_check_without_facts_is_skipped_and_says_so() -> None:
    check: Check[int] = Check("a", "board", look(failed("no", "do")), {"b": lambda facts: ok("")})
    assert [each.outcome for each in run_check(check)] == ["failed", "skipped"]
    assert "'a'" in run_check(check)[1].detail


def test_a_judgement_that_breaks_leaves_the_next_one_its_turn() -> None:
    check: Check[int] = Check("a", "board", look(ok(""), 7), {"b": lambda _: boom(), "c": lambda _: ok("")})
    assert [each.outcome for each in run_check(check)] == ["ok", "failed", "ok"]


def test_what_does_not_apply_is_no_finding() -> None:
    check: Check[int] = Check("a", "board", look(None, 7), {"b": lambda _: None, "c": lambda _: ok("")})
    assert [each.name for each in run_check(check)] == ["c"]


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([], 0),
        ([("board", "warning"), ("machine", "skipped")], 0),
        ([("platform", "failed")], 11),
        ([("platform", "failed"), ("board", "failed")], 22),
        ([("platform", "failed"), ("board", "failed"), ("machine", "failed")], 2),
        ([("machine", "warning"), ("board", "failed")], 22),
    ],
)
def test_the_exit_code_is_that_of_what_is_to_be_mended_first(found: list[tuple[Area, Outcome]], code: int) -> None:
    assert diagnosis(*found).exit_code == code


@pytest.mark.parametrize(
    ("area", "board", "outcome", "sound"),
    [
        ("board", "a", "ok", True),
        ("board", "a", "warning", True),
        ("board", "a", "failed", False),
        ("board", "a", "skipped", False),
        ("machine", "a", "failed", False),
        ("board", "b", "failed", True),
        ("platform", None, "failed", True),
    ],
)
def test_a_board_is_sound_when_all_of_it_was_seen_and_none_failed(
    area: Area, board: str | None, outcome: Outcome, sound: bool
) -> None:
    assert is_sound([Finding(name="x", area=area, outcome=outcome, detail="", board=board)], "a") is sound
