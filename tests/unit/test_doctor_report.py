"""What doctor prints."""

from __future__ import annotations

import json
import re

from roboticks_tasks.doctor.findings import Area, Diagnosis, Finding, Outcome
from roboticks_tasks.doctor.report import document, table


def finding(name: str, outcome: Outcome, detail: str = "seen", remedy: str = "", area: Area = "board") -> Finding:
    board = "jetson-01" if area == "board" else None
    return Finding(name=name, area=area, outcome=outcome, detail=detail, remedy=remedy, board=board, duration=0.1)


def diagnosis(*findings: Finding) -> Diagnosis:
    return Diagnosis(profile="jetson", boards=("jetson-01",), findings=findings, duration=0.5)


def test_the_details_stand_below_each_other_and_each_remedy_below_its_finding() -> None:
    text = table(
        diagnosis(
            finding("software", "ok", area="machine"),
            finding("clock", "failed", "90 s behind", "set it"),
            finding("shell start-up", "warning", "180 ms", "mend ~/.bashrc"),
        )
    )
    assert text.splitlines() == [
        "this machine and the profile:",
        "  + ok       software        seen",
        "",
        "board jetson-01:",
        "  x FAILED   clock           90 s behind",
        "                             -> set it",
        "  ! warning  shell start-up  180 ms",
        "                             -> mend ~/.bashrc",
        "",
        "profile jetson: 1 ok, 1 warning, 1 failed, in 0.50 s",
    ]


def test_what_was_skipped_for_one_reason_is_one_line() -> None:
    text = table(diagnosis(*(finding(name, "skipped", "no connection") for name in ("clock", "disk"))))
    assert "- skipped    clock, disk: no connection" in text


def test_no_line_is_wider_than_the_terminal() -> None:
    long = finding("clock", "failed", "words " * 60, "other words " * 60)
    assert max(map(len, table(diagnosis(long), width=80).splitlines())) <= 80


def test_there_are_colours_only_when_asked_for() -> None:
    plain, coloured = (table(diagnosis(finding("clock", "failed")), colour=colour) for colour in (False, True))
    assert "\x1b" not in plain
    assert plain.isascii()
    assert coloured != plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_what_a_board_said_moves_no_cursor() -> None:
    text = table(diagnosis(finding("clock", "failed", "a\x1b[2Jb\r\nc", "d\x07e")))
    assert "\x1b" not in text
    assert "\r" not in text
    assert "\x07" not in text


def test_the_document_has_every_finding_the_summary_and_the_exit_code() -> None:
    found = finding("clock", "failed", "\x1b", "set it")
    content = json.loads(document(diagnosis(finding("disk", "ok"), found)))
    assert {name: content[name] for name in ("profile", "boards", "exit_code", "summary", "duration")} == {
        "profile": "jetson",
        "boards": ["jetson-01"],
        "exit_code": 22,
        "summary": {"ok": 1, "warning": 0, "failed": 1, "skipped": 0},
        "duration": 0.5,
    }
    assert content["findings"][1] == {
        "name": "clock",
        "area": "board",
        "outcome": "failed",
        "detail": "\x1b",
        "remedy": "set it",
        "board": "jetson-01",
        "duration": 0.1,
    }
