"""JUnit files: well-formed whatever a device or a test is called, counted right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboticks_tasks.errors import ConfigError
from roboticks_tasks.reporting import junit
from roboticks_tasks.reporting.junit import Counts

# Lone surrogates are in: file names and arguments that are not UTF-8 hold them.
NASTY = st.sampled_from("\0\x0b\x1b\x7f\x85\ud800\udfff\ufffe\uffff")
ANY_TEXT = st.lists(st.characters() | NASTY, max_size=10).map("".join)

ROOT = Path(__file__).parents[2]

REPORT = """<testsuites><testsuite tests="5">
<testcase name="a"/>
<testcase name="b"><failure message="no"/></testcase>
<testcase name="c"><error message="no"/></testcase>
<testcase name="d"><skipped/></testcase>
<testcase name="e"><system-out>x</system-out></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pytest.xml"


@given(name=ANY_TEXT, message=ANY_TEXT, kind=st.sampled_from([None, "failure", "error"]))
def test_whatever_text_it_holds_it_is_well_formed(name: str, message: str, kind: str | None) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "results.xml"
        junit.write_single(path, name=name, seconds=0.1, kind=kind, message=message)
        case = next(ElementTree.parse(path).getroot().iter("testcase"))
        assert junit.read_counts(path) == Counts(int(kind is None), int(kind == "failure"), int(kind == "error"), 0)
    assert len(case.attrib["name"]) == len(name)


def test_text_that_xml_can_hold_arrives_unchanged(path: Path) -> None:
    text = "<a href='x'>&\"\t]]> \u2603 \U0001f916"
    junit.write_single(path, name=text, seconds=0.1, kind="failure", message=text)
    root = ElementTree.parse(path).getroot()
    assert next(root.iter("testcase")).attrib["name"] == text
    assert next(root.iter("failure")).attrib["message"] == text


@pytest.mark.parametrize(
    ("kind", "counts"), [(None, Counts(1, 0, 0, 0)), ("failure", Counts(0, 1, 0, 0)), ("error", Counts(0, 0, 1, 0))]
)
def test_the_suite_counts_its_one_case(path: Path, kind: str | None, counts: Counts) -> None:
    junit.write_single(path, name="x", seconds=1.25, kind=kind)
    suite = next(ElementTree.parse(path).getroot().iter("testsuite"))
    found = [int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")]
    assert found == [1, counts.failed, counts.errors, 0]
    assert suite.attrib["time"] == "1.250"
    assert junit.read_counts(path) == counts


def test_every_case_counts_once(path: Path) -> None:
    path.write_text(REPORT)
    assert junit.read_counts(path) == Counts(passed=2, failed=1, errors=1, skipped=1)


@pytest.mark.parametrize("text", ["", "<testsuites>", REPORT[:-10], "\0"])
def test_a_file_that_is_cut_off_has_no_counts(path: Path, text: str) -> None:
    path.write_text(text)
    assert junit.read_counts(path) is None


def test_no_file_has_no_counts(path: Path) -> None:
    assert junit.read_counts(path) is None


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;&b;&b;">]>',
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">',
        "<!DOCTYPE a>",
    ],
)
def test_a_document_type_is_refused(path: Path, head: str) -> None:
    path.write_text(f"{head}{REPORT}")
    assert junit.read_counts(path) is None


def test_a_file_of_hundreds_of_megabytes_is_counted_and_taken_over_in_bounded_memory(path: Path) -> None:
    case = b'<testcase name="a"><failure message="no">%s</failure></testcase>\n' % (b"words of a test " * 6_000)
    with path.open("wb") as stream:
        stream.write(b"<testsuites><testsuite>")
        for _ in range(1_000):
            stream.write(case)
        stream.write(b'<testcase name="b"/></testsuite></testsuites>')
    program = """
import sys
from pathlib import Path
from roboticks_tasks.reporting import junit
from tests.unit.junit_files import a_result
path = Path(sys.argv[1])
counts = junit.read_counts(path)
junit.write_junit(path.parent, a_result(), None)
status = Path("/proc/self/status").read_text().split()
print(*counts, status[status.index("VmHWM:") + 1])
"""
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True, cwd=ROOT)
    *counts, memory = map(int, done.stdout.split())
    assert counts == [1, 1_000, 0, 0]
    assert memory < 100_000
    assert (path.parent / "results.xml").stat().st_size > path.stat().st_size


def test_a_word_without_end_is_no_reason_to_read_a_whole_file_into_memory(path: Path) -> None:
    with path.open("wb") as stream:
        stream.write(b'<testsuites><testsuite><testcase name="')
        for _ in range(40):
            stream.write(b"x" * 1_000_000)
        stream.write(b'"/></testsuite></testsuites>')
    assert junit.read_counts(path) is None


def test_an_outcome_counts_only_as_a_child_of_its_case(path: Path) -> None:
    path.write_text("<testsuite><error/><testcase><properties><failure/></properties></testcase></testsuite>")
    assert junit.read_counts(path) == Counts(1, 0, 0, 0)


def test_a_file_that_cannot_be_written_is_left_as_it_is_and_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(REPORT)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        junit.write_single(path, name="x", seconds=1)
    assert path.read_text() == REPORT
    assert [each.name for each in path.parent.iterdir()] == [path.name]
