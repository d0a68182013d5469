"""What reports are made of: read from the run's folder, whatever a test, a tool or a broken disk has left there."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboticks_tasks import events
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.models import Attachment
from roboticks_tasks.reporting import junit
from roboticks_tasks.reporting.cases import UNENDED
from roboticks_tasks.reporting.finished import read_run
from roboticks_tasks.reporting.junit_cases import DETAIL, read_cases
from roboticks_tasks.state import NoRunError, RunState
from tests.unit.junit_files import BEGIN, a_result, ended, leave, note

REPORT = """<testsuites><testsuite name="pytest">
<testcase classname="hil.test_a" name="one" time="0.25"/>
<testcase classname="hil.test_a" name="two" time="1,000.5"><failure message="no">the
detail</failure><system-out>said</system-out></testcase>
<testcase classname="hil.test_a" name="three"><properties><property name="roboticks.nodeid" value="n::three"/>
<property name="tag">slow</property></properties><skipped message="later"/></testcase>
<testcase classname="hil.test_a" name="four"><failure message="call"/></testcase>
<testcase classname="hil.test_a" name="four"><error message="tear-down">late</error></testcase>
</testsuite></testsuites>"""


def test_every_case_is_read_with_what_the_tool_says_of_it(tmp_path: Path) -> None:
    leave(tmp_path, a_result(), junit=REPORT)
    one, two, three, four = read_run(tmp_path).cases
    assert (one.nodeid, one.outcome, one.duration, one.begin) == ("hil.test_a::one", "passed", 0.25, None)
    assert (two.outcome, two.duration, two.message, two.detail, two.output) == (
        *("failed", 1000.5, "no", "the\ndetail", "said"),
    )
    assert (three.nodeid, three.outcome, three.properties[1]) == ("n::three", "skipped", ("tag", "slow"))
    assert (four.outcome, four.message) == ("failed", "call")
    assert "tear-down\nlate" in four.detail


def test_a_test_that_was_run_again_is_one_test_although_the_file_has_a_case_for_each_attempt(tmp_path: Path) -> None:
    attempt = '<testcase classname="hil.test_a" name="two" time="0.1">{}</testcase>'
    named = '<properties><property name="roboticks.nodeid" value="hil/test_a.py::two"/></properties>'
    for what in ("", named):
        red = attempt.format(f'{what}<failure message="no"/>')
        leave(tmp_path, a_result(), junit=f'<testsuite name="pytest">{attempt.format(what)}{red}</testsuite>')
        (tmp_path / "tests.jsonl").unlink(missing_ok=True)
        note(
            tmp_path,
            events.CaseStarted(nodeid="hil/test_a.py::two"),
            ended("hil/test_a.py::two", "rerun", begin=BEGIN),
            events.CaseStarted(nodeid="hil/test_a.py::two"),
            ended("hil/test_a.py::two", "failed", begin=BEGIN + 5),
        )
        [two] = read_run(tmp_path).cases
        assert (two.nodeid, two.outcome, two.attempts, two.begin) == ("hil/test_a.py::two", "failed", 2, BEGIN + 5)


def test_of_a_file_that_cannot_be_imported_its_name_and_the_last_error_are_told(tmp_path: Path) -> None:
    detail = "ImportError while importing '/x/hil/test_a.py'.\nhil/test_a.py:1: in x\n    import y\nE   KeyError: 'y'"
    case = f'<testcase classname="" name="hil.test_a"><error message="collection failure">{detail}</error></testcase>'
    leave(tmp_path, a_result(), junit=f'<testsuite name="pytest">{case}</testsuite>')
    [found] = read_run(tmp_path).cases
    assert (found.nodeid, found.message) == ("hil/test_a.py", "collection failure: KeyError: 'y'")


def test_times_places_attempts_and_files_are_the_plugins_and_outcomes_the_junit_files(tmp_path: Path) -> None:
    leave(tmp_path, a_result(), junit=REPORT)
    file = Attachment(name="a", path="attachments/x/a", media_type="text/plain", size=1)
    note(
        tmp_path,
        events.CaseStarted(nodeid="hil/test_a.py::two"),
        ended("hil/test_a.py::two", "rerun", begin=BEGIN),
        events.CaseStarted(nodeid="hil/test_a.py::two"),
        ended("hil/test_a.py::two", "passed", begin=BEGIN + 5, file="hil/test_a.py", line=7, attachments=(file,)),
        ended("hil/test_a.py::one", begin=BEGIN + 9, worker="gw1"),
    )
    cases = {case.name: case for case in read_run(tmp_path).cases}
    two = cases["two"]
    assert (two.nodeid, two.outcome, two.attempts) == ("hil/test_a.py::two", "failed", 2)
    assert (two.begin, two.end, two.duration) == (BEGIN + 5, BEGIN + 5.5, 0.5)
    assert (two.file, two.line, two.attachments) == ("hil/test_a.py", 7, (file,))
    assert cases["one"].worker == "gw1"
    assert [case.name for case in read_run(tmp_path).cases] == ["two", "three", "four", "one"]


def test_without_a_junit_file_the_plugins_notes_are_all_there_is(tmp_path: Path) -> None:
    leave(tmp_path, a_result())
    note(
        tmp_path,
        ended("a.py::one", begin=BEGIN),
        ended("a.py::two", "failed", begin=BEGIN + 1, message="no"),
        events.CaseStarted(nodeid="a.py::three", at=BEGIN + 2),
    )
    found = [(case.nodeid, case.outcome, case.message, case.end is None) for case in read_run(tmp_path).cases]
    assert found == [
        ("a.py::one", "passed", "", False),
        ("a.py::two", "failed", "no", False),
        ("a.py::three", "error", UNENDED, True),
    ]


def test_of_a_junit_file_that_is_cut_off_the_notes_fill_in_the_rest_and_it_is_said(tmp_path: Path) -> None:
    leave(tmp_path, a_result(), junit=REPORT[: REPORT.index('name="three"')])
    note(tmp_path, *(ended(f"hil/test_a.py::{name}", begin=BEGIN) for name in ("one", "two", "three")))
    finished = read_run(tmp_path)
    assert [(case.name, case.outcome) for case in finished.cases] == [
        *(("one", "passed"), ("two", "failed"), ("three", "passed")),
    ]
    assert "pytest.xml: it is cut off or damaged" in finished.problems[0]


def test_a_whole_junit_file_has_all_the_tests(tmp_path: Path) -> None:
    leave(tmp_path, a_result(), junit=REPORT)
    note(tmp_path, ended("other.py::prefixed", begin=BEGIN))
    assert len(read_run(tmp_path).cases) == 4


def test_our_own_suite_and_what_stands_in_for_the_tests_are_no_tests(tmp_path: Path) -> None:
    leave(tmp_path, a_result(), junit=REPORT)
    junit.write_junit(tmp_path, a_result(), None)
    (tmp_path / "pytest.xml").unlink()  # an older run's folder
    assert len(read_run(tmp_path).cases) == 4
    junit.write_stand_in(tmp_path / "pytest.xml", seconds=1, message="why")
    assert read_run(tmp_path).cases == ()


@pytest.mark.parametrize(
    ("report", "outcomes"),
    [
        (
            '<testsuites><testsuite name="S"><testcase name="a" status="notrun"/><testcase name="b" status="run"'
            ' file="a.cc" line="9"/><testcase name="c"><failure type="t">x\nlast</failure></testcase></testsuite>'
            "</testsuites>",
            ["skipped", "passed", "failed"],
        ),
        ('<testsuite><testsuite><testcase name="a"/></testsuite><testcase name="b"/></testsuite>', ["passed"] * 2),
        ('<x:testsuite xmlns:x="u"><x:testcase name="a"><x:error/></x:testcase></x:testsuite>', ["error"]),
        ('<!DOCTYPE a [<!ENTITY b "c">]><testsuite><testcase name="&b;"/></testsuite>', []),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><testsuite><testcase name="a"/></testsuite>', []),
        ('<testsuite><testcase name="a"/><testcase name="&b;"/></testsuite>', ["passed"]),
        ('<testsuite><testcase name="a" time="-1"/><testcase time="nan" line="x"/></testsuite>', ["passed"] * 2),
        ("<html><testcase/></html>", ["passed"]),
        ("\0", []),
    ],
)
def test_the_file_of_any_tool_is_read_as_far_as_it_goes(tmp_path: Path, report: str, outcomes: list[str]) -> None:
    leave(tmp_path, a_result(), junit=report)
    finished = read_run(tmp_path)
    assert [case.outcome for case in finished.cases] == outcomes
    assert all(case.duration >= 0 for case in finished.cases)
    assert bool(finished.problems) == ("&b;" in report or "DOCTYPE" in report or report == "\0")


def test_five_thousand_cases_and_a_detail_of_32_megabytes_are_cut_to_what_people_read(tmp_path: Path) -> None:
    path = tmp_path / "pytest.xml"
    with path.open("w") as stream:
        stream.write('<testsuites><testsuite><testcase name="big"><failure message="m">begin\n')
        stream.writelines(["x" * 1023 + "\n"] * 32_768)
        stream.write("end</failure></testcase>")
        stream.writelines(f'<testcase name="t{n}"><failure>{"y" * 10_000}</failure></testcase>' for n in range(5_000))
        stream.write("</testsuite></testsuites>")
    reading = read_cases(path)
    assert reading is not None
    assert len(reading.cases) == 5_001
    detail = reading.cases[0].detail
    assert len(detail) < DETAIL + 100
    assert (detail[:5], detail[-3:]) == ("begin", "end")
    assert "characters left out" in detail
    assert sum(len(case.detail) for case in reading.cases) < 64_000_000
    assert len(reading.cases[-1].detail) < 5_000


TEXT = st.text(st.characters() | st.sampled_from("<>&]\0\x1b\x85\u202e\ud800\U0001f916"), max_size=20)


@given(st.binary(max_size=80), st.binary(max_size=80), st.lists(TEXT, max_size=3))
def test_no_file_breaks_the_reports(junk: bytes, notes: bytes, names: list[str]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        leave(folder, a_result())
        report = REPORT.encode()
        (folder / "pytest.xml").write_bytes(report[: len(report) // 2] + junk + report[len(report) // 2 :])
        note(folder, *(ended(f"a.py::{each}") for each in names))
        with (folder / "tests.jsonl").open("ab") as stream:
            stream.write(notes)
        assert len(read_run(folder).cases) >= 2


def test_the_events_are_those_of_this_run_alone(tmp_path: Path) -> None:
    result = a_result()
    leave(tmp_path, result, run=RunState(run_id="another", profile="sim", started_at=""))
    sink = events.write_jsonl(tmp_path / "events.jsonl")
    for run_id in ("before", result.run_id, "after"):
        sink(events.RunStarted(run_id=run_id, profile="sim"))
        sink(events.StepStarted(name=run_id))
    finished = read_run(tmp_path)
    assert [getattr(each, "run_id", None) or getattr(each, "name", None) for each in finished.events] == [
        *(result.run_id, result.run_id),
    ]
    assert finished.state is None


def test_a_folder_without_a_result_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(NoRunError, match="is not the folder of a run"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match="has no result yet"):
        read_run(tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged or of another version"):
        read_run(tmp_path)
    (tmp_path / "result.json").write_bytes(msgspec.json.encode(a_result()))
    assert "damaged" in read_run(tmp_path).problems[0]
