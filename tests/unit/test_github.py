"""What GitHub and GitLab are told: escaped, within their limits, and nothing of it said by a device."""

from __future__ import annotations

import html
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboticks_tasks import console
from roboticks_tasks.reporting.ci_log import fit_for_log, folded
from roboticks_tasks.reporting.github import LARGEST_SUMMARY, tell_github
from roboticks_tasks.reporting.markdown import escaped, markdown
from roboticks_tasks.reporting.values import Case, Diagnosis, Finished, Line
from roboticks_tasks.reporting.words import disarmed, harmless
from tests.unit.junit_files import a_result

WORD = Line(at=0, source="device", text="|x|")
CHANGE = Diagnosis(cause="change", sentence="The change: 100% <wrong>", advice="`mend it`", evidence=(WORD,))
ANY = st.text(st.characters() | st.sampled_from("\0\x1b\n\r\u202e|`<>@#:%,"), max_size=40)
COMMAND = re.compile(r"^::(error|warning|notice) ([^\n]*?)::([^\n]*)$")


def case(name: str = "a", **values: object) -> Case:
    known = {"nodeid": f"hil/test_a.py::{name}", "classname": "c", "name": name, "outcome": "failed", "duration": 1.0}
    return Case(**{**known, **values})  # type: ignore[arg-type]


def finished(*cases: Case, code: int = 1) -> Finished:
    return Finished(result=a_result("failed" if code else "passed", code, "why"), cases=cases)


def told(capsys: pytest.CaptureFixture[str], what: Finished, diagnosis: Diagnosis, workspace: Path) -> list[str]:
    tell_github(what, diagnosis, {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(workspace)})
    return capsys.readouterr().out.splitlines()


def test_elsewhere_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    tell_github(finished(case()), CHANGE, {"CI": "true", "GITLAB_CI": "true"})
    assert capsys.readouterr().out == ""


def test_a_run_that_passed_has_no_annotation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    passed = Diagnosis(cause="none", sentence="1 test passed")
    assert told(capsys, finished(case(outcome="passed"), code=0), passed, tmp_path) == []


def test_the_diagnosis_comes_first_then_each_test_at_the_line_where_it_failed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "hil").mkdir()
    (tmp_path / "hil" / "a,b.py").touch()
    lines = told(capsys, finished(case(file="hil/a,b.py", line=7, message="50% of\nit")), CHANGE, tmp_path)
    assert lines == [
        "::error title=sim%3A failed::The change: 100%25 <wrong>. `mend it`",
        "::error file=hil/a%2Cb.py,line=7,title=hil/test_a.py%3A%3Aa::50%25 of it",
    ]


@pytest.mark.parametrize("file", ["../outside.py", "/etc/passwd", "missing.py", "a\0b", "x" * 5_000, "link.py"])
def test_a_place_that_is_not_in_the_workspace_is_left_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, file: str
) -> None:
    (tmp_path / "outside.py").touch()
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "link.py").symlink_to(tmp_path / "outside.py")
    _, line = told(capsys, finished(case(file=file, line=1)), CHANGE, workspace)
    assert line.startswith("::error title=")


def test_there_are_at_most_ten_of_each_kind(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shaky = [case(f"s{number}", outcome="passed", attempts=2) for number in range(30)]
    lines = told(capsys, finished(*shaky, *(case(f"t{number}") for number in range(30))), CHANGE, tmp_path)
    counts = {kind: sum(line.startswith(f"::{kind} ") for line in lines) for kind in ("error", "warning", "notice")}
    assert counts == {"error": 10, "warning": 10, "notice": 0}


def test_tests_that_a_broken_bench_has_failed_only_warn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bench = Diagnosis(cause="bench", sentence="The bench")
    kinds = [line.split(" ")[0] for line in told(capsys, finished(case(), case("b")), bench, tmp_path)]
    assert kinds == ["::error", "::warning", "::warning"]


@given(ANY, ANY, ANY)
def test_whatever_a_test_says_each_annotation_is_one_command_of_ours(name: str, message: str, file: str) -> None:
    stream, stdout = io.StringIO(), sys.stdout
    sys.stdout = stream
    try:
        environ = {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": "/nowhere"}
        tell_github(finished(case(name, message=message, file=file)), CHANGE, environ)
    finally:
        sys.stdout = stdout
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    for line in lines:
        found = COMMAND.match(line)
        assert found
        assert found[1] == "error"
        assert [word.partition("=")[0] for word in found[2].split(",")] == ["title"]


def test_the_summary_is_appended_with_the_diagnosis_first(tmp_path: Path) -> None:
    path = tmp_path / "summary"
    path.write_text("theirs")
    tell_github(finished(case(message="a|b <script>")), CHANGE, {"GITHUB_STEP_SUMMARY": str(path)})
    text = path.read_text()
    assert text.startswith("theirs\n### ")
    assert text.index("The change") < text.index("test&#95;a.py") < text.index("pytest&#95;session")
    assert "<script>" not in text
    assert "a&#124;b" in text


@pytest.mark.parametrize("before", [0, *(LARGEST_SUMMARY - less for less in (5_000, 300, 0, -9))])
def test_with_what_others_have_written_it_stays_below_the_limit_and_says_so(tmp_path: Path, before: int) -> None:
    path = tmp_path / "summary"
    path.write_text("x" * before)
    many = [case(f"t{number}", message="\U0001f916" * 300) for number in range(300)]
    for _ in range(8):
        tell_github(finished(*many), CHANGE, {"GITHUB_STEP_SUMMARY": str(path)})
    content = path.read_bytes()
    assert len(content) <= max(before, LARGEST_SUMMARY)
    assert content[:before] == b"x" * before
    if before <= LARGEST_SUMMARY - 5_000:
        assert b"(cut: GitHub shows at most 1 MiB" in content
    content.decode()


def test_a_summary_that_cannot_be_written_breaks_nothing(tmp_path: Path) -> None:
    tell_github(finished(case()), CHANGE, {"GITHUB_STEP_SUMMARY": str(tmp_path)})


@given(ANY)
def test_nothing_becomes_markup(text: str) -> None:
    cell = escaped(text)
    assert html.unescape(cell) == harmless(text, 300)
    assert not set("|`<>*_[]@\n").intersection(cell)
    rows = markdown(finished(case(text, message=text)), CHANGE).splitlines()
    assert len([row for row in rows if re.match(r"\| .* \| failed \| 1\.00 s \| .* \|$", row)]) == 1


def obeyed(line: str) -> bool:
    """As the runner reads a line: `::` after white space, or `##[` anywhere."""
    return line.lstrip().startswith("::") or "##[" in line


@given(st.text("ab:# []\t\n\r\x85\u2028", max_size=20))
def test_no_line_is_a_command_once_it_is_disarmed(text: str) -> None:
    shown = console.printable(text, keep="\n\t")
    assert not any(obeyed(line) for line in disarmed(shown).split("\n"))
    assert fit_for_log(text, {}) == text


@pytest.mark.parametrize("text", ["::set-env name=PATH::x", "a ##[add-mask]e", "why\n  ::error::x", "##vso[task]x"])
def test_what_we_print_of_a_device_is_no_command_for_the_runner(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    with console.shown():
        console.log.error("%s", text)
        console.log.getChild("device").info("%s", text)
    console.say(text)
    shown = capsys.readouterr()
    for line in (shown.out + shown.err).splitlines():
        assert not obeyed(line)
        assert "##vso[" not in line


RUN = """
import os, sys
from pathlib import Path
from roboticks_tasks.lifecycle.support.group import run_group
from roboticks_tasks.waiting import Deadline
folder = Path(sys.argv[1])
words = ["sh", "-c", "echo ::error::x; printf end"]
run_group(words, environment=os.environ, log_file=folder / "log", pid_file=folder / "pid", deadline=Deadline(30))
"""


def test_the_runner_obeys_nothing_of_what_tests_print(tmp_path: Path) -> None:
    environ = {**os.environ, "GITHUB_ACTIONS": "true"}
    words = [sys.executable, "-c", RUN, str(tmp_path)]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=True)
    found = re.fullmatch(r"::stop-commands::(\w{32})\n::error::x\nend\n::(\w{32})::\n", done.stdout)
    assert found
    assert found[1] == found[2]
    assert (tmp_path / "log").read_text() == "::error::x\nend"


def test_elsewhere_the_tests_output_is_as_it_is(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "GITHUB_ACTIONS"}
    words = [sys.executable, "-c", RUN, str(tmp_path)]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "::error::x\nend"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, r"line\n"),
        ({"GITHUB_ACTIONS": "true"}, r"::group::100%25 ::b\nline\n::endgroup::\n"),
        (
            {"GITLAB_CI": "true"},
            r"\x1b\[0Ksection_start:\d+:(\w+)\[collapsed=true\]\r\x1b\[0K100% ::b\nline\n"
            r"\x1b\[0Ksection_end:\d+:\1\r\x1b\[0K\n",
        ),
    ],
)
def test_a_long_log_folds_where_the_ci_system_can(environ: dict[str, str], expected: str) -> None:
    stream = io.StringIO()
    with folded("100% ::b", environ, stream):
        stream.write("line\n")
    assert re.fullmatch(expected, stream.getvalue())
