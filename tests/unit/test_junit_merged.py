"""results.xml: the run's steps and the tests' own suites, byte by byte, whatever became of either."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboticks_tasks.errors import ConfigError
from roboticks_tasks.lifecycle.support.record import FIELDS
from roboticks_tasks.models import Composition, Deployment, Provenance, RunResult
from roboticks_tasks.reporting import junit
from roboticks_tasks.reporting.lifecycle_suite import STEPS, SUITE
from roboticks_tasks.state import RunState
from tests.unit.junit_files import a_result, counted, up_to

SUITES = (
    '<testsuite name="pytest" tests="2" failures="1" errors="0" skipped="0" time="0.5">'
    '<testcase classname="hil.test_a" name="test_it[&lt;b&gt;&quot;\U0001f916]" time="0.1"><properties>'
    "<property name='roboticks.nodeid' value='hil/test_a.py::test_it'/></properties></testcase>\n"
    '<testcase classname="hil.test_a" name="two"><failure message="no">a &amp; <![CDATA[<b>]]></failure></testcase>'
    '</testsuite><!-- between --><testsuite name="other"><testcase name="three"/></testsuite>'
)
REPORT = f'<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests" tests="9">{SUITES}</testsuites>\n'

LATIN = "<?xml version='1.0' encoding='ISO-8859-1'?><testsuite><testcase name='\u00e4'/></testsuite>"

CANCELLED: dict[str, Any] = {"verdict": "cancelled", "exit_code": 143, "reason": "cancelled by signal 15"}


@pytest.fixture(scope="module", autouse=True)
def _no_power_cut() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


def merged(
    folder: Path, result: RunResult, report: str | bytes | None, run: RunState | None = None
) -> ElementTree.Element:
    if report is not None:
        (folder / "pytest.xml").write_bytes(report.encode() if isinstance(report, str) else report)
    junit.write_junit(folder, result, run)
    return ElementTree.parse(folder / "results.xml").getroot()


def kinds(root: ElementTree.Element) -> dict[str | None, str | None]:
    cases = root.findall("testsuite")[0].findall("testcase")
    return {case.get("name"): case[0].tag if len(case) else None for case in cases}


def test_what_the_tests_wrote_is_taken_over_byte_by_byte_and_left_alone(tmp_path: Path) -> None:
    root = merged(tmp_path, a_result(tests=counted(passed=2, failed=1)), REPORT)
    assert SUITES.encode() in (tmp_path / "results.xml").read_bytes()
    assert (tmp_path / "pytest.xml").read_text() == REPORT
    assert [suite.get("name") for suite in root] == [SUITE, "pytest", "other"]
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == (str(len(STEPS) + 3), "1", "0")


def test_steps_alone_are_in_a_file_of_their_own(tmp_path: Path) -> None:
    merged(tmp_path, a_result(), REPORT)
    root = ElementTree.parse(tmp_path / "lifecycle.xml").getroot()
    assert kinds(root) == dict.fromkeys(STEPS)
    assert [suite.get("name") for suite in root] == [SUITE]


def test_the_suite_says_which_run_it_was(tmp_path: Path) -> None:
    composition = Composition(name="Hello\0", mode="dev", status="running")
    result = a_result(
        board_id="lab-7", dsn="SIM-1", session_id="s-1", compositions=(composition,), provenance=Provenance(commit="c0")
    )
    deployment = Deployment(path="/d", mode="dev")
    run = RunState(run_id=result.run_id, profile="sim", started_at="", deployment=deployment)
    root = merged(tmp_path, result, None, run)
    assert {each.get("name"): each.get("value") for each in root.iter("property")} == {
        f"roboticks_tasks.{name}": value
        for name, value in {
            "run": result.run_id,
            "profile": "sim",
            "board": "lab-7",
            "dsn": "SIM-1",
            "session": "s-1",
            "composition": "Hello\N{REPLACEMENT CHARACTER}",
            "mode": "dev",
            "commit": "c0",
            "verdict": "passed",
            "exit_code": "0",
        }.items()
    }


@pytest.mark.parametrize(
    ("verdict", "code", "kind"),
    [
        ("bench-error", 12, "error"),
        ("backend-error", 12, "error"),
        ("config-error", 12, "error"),
        ("failed", 14, "failure"),
    ],
)
def test_only_the_product_has_failures_and_what_never_ran_is_skipped(
    tmp_path: Path, verdict: str, code: int, kind: str
) -> None:
    root = merged(tmp_path, a_result(verdict, code, "why", steps=up_to("await_dsn", verdict, code)), None)
    found = kinds(root)
    assert found["launch_dm"] is None
    assert found["await_dsn"] == kind
    assert {found[name] for name in ("await_session", "deploy", "pytest_session")} == {"skipped"}
    assert found["teardown"] is None


def test_a_step_that_was_cancelled_is_an_error_and_no_failure(tmp_path: Path) -> None:
    steps = up_to("deploy", "cancelled", 143, outcome="cancelled")
    assert kinds(merged(tmp_path, a_result(**CANCELLED, steps=steps), None))["deploy"] == "error"


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (a_result(**CANCELLED), "error"),
        (a_result("bench-error", 20, "in use", steps=()), "error"),
        (a_result("failed", 1, "ended with 1", tests=counted(passed=1, code=1)), "failure"),
    ],
)
def test_no_run_that_has_not_passed_is_all_green(tmp_path: Path, result: RunResult, kind: str) -> None:
    assert kind in kinds(merged(tmp_path, result, None)).values()


def test_why_the_tests_left_no_file_is_said_once(tmp_path: Path) -> None:
    junit.write_stand_in(tmp_path / "pytest.xml", seconds=1, message="why")
    root = merged(
        tmp_path, a_result("config-error", 15, "why", steps=up_to("pytest_session", "config-error", 15)), None
    )
    assert [suite.get("name") for suite in root] == [SUITE]
    assert len(list(root.iter("error"))) == 1


def test_of_a_file_that_is_cut_off_anywhere_the_whole_cases_are_kept_and_the_rest_is_said(tmp_path: Path) -> None:
    for cut in range(len(REPORT.rstrip())):
        text = REPORT[:cut]
        suite, *others = root = merged(tmp_path, a_result(**CANCELLED), text)
        whole = text.count("</testcase>") + text.count('"three"/>')
        assert sum(len(each.findall("testcase")) for each in others) == whole, text
        assert "cut off" in str(suite.findall("testcase")[-1][0].get("message"))
        assert int(str(root.get("tests"))) == len(list(root.iter("testcase")))


@pytest.mark.parametrize(
    ("report", "names"),
    [
        ('<testsuite name="a"><testcase name="b"/></testsuite>', ["b"]),
        ('<testsuite name="a"/>', []),
        ('<testsuite name="a"></testsuite>', []),
        ("<testsuites/>", []),
        ("<html/>", []),
        ('<testsuites xmlns="urn:x"><testsuite name="a"><testcase name="b"/></testsuite></testsuites>', ["b"]),
        ('<testsuites xmlns:x="u"><testsuite x:y="1"><testcase name="b"/></testsuite></testsuites>', ["b"]),
        ('<testsuites><testsuite x:y="1"><testcase name="b"/></testsuite></testsuites>', []),
        ('<testsuite><testsuite><testcase name="b"/></testsuite></testsuite>', ["b"]),
        ("\ufeff<testsuite><testcase name='b'/></testsuite>", ["b"]),
        ("<?xml version='1.0'?><testsuite><testcase name='\u00e4'/></testsuite>".encode("utf-16"), ["\u00e4"]),
        (LATIN.encode("latin-1"), ["\u00e4"]),
        ("<?xml version='1.0' encoding='x-none'?><testsuite><testcase name='b'/></testsuite>", []),
        ('<!DOCTYPE a [<!ENTITY b "c">]><testsuites><testsuite><testcase name="&b;"/></testsuite></testsuites>', []),
        (b"\0\0\0", []),
        (b"", []),
    ],
)
def test_a_file_of_any_tool_is_taken_over_or_said_to_be_unreadable(
    tmp_path: Path, report: str | bytes, names: list[str]
) -> None:
    root = merged(tmp_path, a_result(), report)
    assert [case.get("name") for suite in root[1:] for case in suite.iter("testcase")] == names
    assert "failure" not in kinds(root).values()
    assert "error" not in kinds(root).values()


def test_attributes_of_the_tests_root_that_are_not_ours_stay(tmp_path: Path) -> None:
    report = '<testsuites roboticks_schema_version="2" tests="7"><testsuite name="a"/></testsuites>'
    root = merged(tmp_path, a_result(), report)
    assert (root.get("roboticks_schema_version"), root.get("tests")) == ("2", str(len(STEPS)))


@given(
    st.binary(max_size=60) | st.text("</>test=! -", max_size=12).map(str.encode), st.integers(0, len(REPORT.encode()))
)
def test_whatever_a_file_holds_the_merged_one_is_well_formed(junk: bytes, at: int) -> None:
    data = REPORT.encode()
    with TemporaryDirectory() as folder:
        root = merged(Path(folder), a_result(), data[:at] + junk + data[at:])
    assert root[0].get("name") == SUITE


def test_a_large_file_that_does_not_fit_leaves_the_steps_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise ConfigError("No space left on device")

    monkeypatch.setattr(junit, "SMALL", 10)
    monkeypatch.setattr(junit, "replacing", full)
    (tmp_path / "pytest.xml").write_text(REPORT)
    with pytest.raises(ConfigError):
        junit.write_junit(tmp_path, a_result(), None)
    assert kinds(ElementTree.parse(tmp_path / "results.xml").getroot()) == dict.fromkeys(STEPS)


@pytest.mark.parametrize("root", ["html", "\u0386testsuites"])
def test_a_file_that_is_no_junit_file_is_left_out_and_it_is_said(tmp_path: Path, root: str) -> None:
    suite, *others = merged(tmp_path, a_result(), f"<{root}><testsuite><testcase/></testsuite></{root}>")
    assert others == []
    assert f"it is no JUnit file: it begins with <{root}>" in str(suite.findall("testcase")[-1][0].get("message"))


def test_the_suite_has_the_steps_whose_values_a_run_records() -> None:
    assert tuple(FIELDS) == STEPS
