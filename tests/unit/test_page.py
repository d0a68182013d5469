"""The page of a run: what it says, what it leaves out and tells so, and that nothing foreign can act in it."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roboticks_tasks.errors import ConfigError
from roboticks_tasks.models import Attachment, StepResult, TeardownPart, TeardownReport
from roboticks_tasks.reporting.page import anchor_of, write_page
from roboticks_tasks.reporting.page.chart import draw
from roboticks_tasks.reporting.page.logs import shown
from roboticks_tasks.reporting.page.text import Budget, printable, size
from roboticks_tasks.reporting.page.wording import seconds, web_page
from roboticks_tasks.reporting.values import Case, Diagnosis, Finished, Level, Line, Source
from tests.browser import example

MOST = 5_000_000
"""Bytes that a page may have, whatever the run was."""

ANYTHING = st.text(
    st.one_of(st.characters(), st.sampled_from("<>&\"'`=/\\{}%#\0\x1b\r\n\u202e\u2028\ud800")), max_size=60
)

replace = msgspec.structs.replace


class Read(HTMLParser):
    """A page as a browser takes it: its tags with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.within: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.tags:
            self.within[self.tags[-1][0]] = self.within.get(self.tags[-1][0], "") + data

    @property
    def text(self) -> str:
        return "".join(self.words)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(
    folder: Path, finished: Finished, diagnosis: Diagnosis | None = None, lines: Sequence[Line] | None = None
) -> str:
    timeline = None if lines is None else example.Recorded(lines, finished.cases)
    path = write_page(folder, finished, diagnosis or example.diagnosis(), timeline)
    assert path == folder / "report.html"
    return path.read_bytes().decode()


def case(nodeid: str = "tests/test_a.py::test_a", outcome: str = "failed", **values: Any) -> Case:
    return Case(**{"nodeid": nodeid, "classname": "a", "name": nodeid, "outcome": outcome, "duration": 0.5, **values})


def run(*cases: Case, **values: Any) -> Finished:
    return Finished(**{"result": example.finished().result, "cases": cases, **values})


def test_the_answer_comes_before_all_else(tmp_path: Path) -> None:
    finished = example.finished()
    words = Read(page_of(tmp_path, finished, lines=example.lines())).text
    words = words[words.index("caeaa703") :]  # past the title and the style
    order = [
        example.diagnosis().sentence,
        example.diagnosis().advice,
        "WARN [arm] supply 10.2 V is below 11.0 V",
        "jetson",
        "bench-3",
        "SIM-E66AE66C",
        "ArmComposition (prod)",
        "4be1d9a02c77",
        "arm-fault-latch",
        "#418",
        "2026-11-22 22:34:11 UTC",
        "Lifecycle",
        "ensure_binary",
        "test_the_arm_comes_home_after_a_brownout",
        'TimeoutError: arm/state is "fault", not "home", after 4.0 s',
        "E   TimeoutError",
        "can0: bus-off",
        "dipping bench-3",
        "test_the_gripper_holds_its_force",
        "needs a board with feature 'tactile'",
        "test_the_arm_reports_its_joints",
    ]
    at = 0
    for each in order:
        found = words.find(each, at)
        assert found >= 0, f"{each!r} is missing, or comes too early"
        at = found


def test_the_policy_allows_this_style_and_this_script_and_nothing_else(tmp_path: Path) -> None:
    page = page_of(tmp_path, example.finished())
    policy = next(each["content"] for each in Read(page).of("meta") if each.get("http-equiv"))
    hashes = {
        tag: base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        for tag, content in re.findall(r"<(style|script)>(.*?)</\1>", page, re.DOTALL)
    }
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes['style']}'; "
        f"script-src 'sha256-{hashes['script']}'; base-uri 'none'; form-action 'none'"
    )
    # A style attribute would be refused by it, and so would be a handler.
    assert not [tag for tag, attributes in Read(page).tags if "style" in attributes]


def test_the_files_of_the_page_cannot_end_their_own_element() -> None:
    here = Path(write_page.__code__.co_filename).parent
    assert "</style" not in (here / "page.css").read_text().lower()
    assert "</script" not in (here / "page.js").read_text().lower()
    assert "<!--" not in (here / "page.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval", (here / "page.js").read_text())
    assert "light-dark(" not in (here / "page.css").read_text()  # a browser of before 2024 would have no colour at all
    assert not re.search(r"\|\s*safe\b|autoescape", (here / "page.html.j2").read_text())


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Read:
    return Read(page_saying("x", tmp_path_factory.mktemp("harmless")))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hostile=ANYTHING)
def test_whatever_is_said_stays_text(tmp_path: Path, harmless: Read, hostile: str) -> None:
    read = Read(page_saying(hostile, tmp_path))
    assert {tag for tag, _ in read.tags} <= {tag for tag, _ in harmless.tags}
    assert len(read.of("script")) == len(read.of("style")) == 1
    for tag, attributes in read.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
    for link in read.of("a"):
        assert re.match(r"#|\./|https?://", link["href"] or "?"), link
    assert printable(hostile).strip() in read.text


def page_saying(word: str, folder: Path) -> str:
    """Return the page of a run in which everybody has said `word`."""
    bad = case(
        word,
        message=word,
        detail=word,
        output=word,
        file=word,
        line=3,
        begin=example.BEGAN,
        end=example.BEGAN + 1,
        worker=word,
        attachments=(Attachment(name=word, path=word, media_type=word, size=1),),
        properties=((word, word),),
    )
    line = Line(at=example.BEGAN, source="console", text=word, level="error")
    result = example.finished().result
    result = replace(
        result,
        run_id=word,
        profile=word,
        verdict=word,
        reason=word,
        started_at=word,
        dsn=word,
        session_id=word,
        board_id=word,
        kept_until=word,
        compositions=tuple(replace(each, name=word, mode=word) for each in result.compositions),
        steps=(StepResult(name=word, outcome="failed", duration=1, error=word),),
        teardown=TeardownReport(parts=(TeardownPart(name=word, ok=False, detail=word, duration=1),)),
        provenance=replace(result.provenance, commit=word, branch=word, url=word, ci=word, job=word),
    )
    finished = Finished(result=result, cases=(bad, replace(bad, outcome="passed"), replace(bad, outcome="skipped")))
    diagnosis = Diagnosis(cause="test", sentence=word, advice=word, evidence=(line,))
    return page_of(folder, finished, diagnosis, [line])


@given(ANYTHING)
def test_nothing_acts_or_hides_in_what_is_shown(text: str) -> None:
    shown_text = printable(text)
    shown_text.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b\ud800-\udfff]", shown_text)


def test_colours_of_a_terminal_are_dropped_and_other_controls_have_a_name() -> None:
    assert printable("\x1b[1;31mpanic\x1b[0m\r\n\x00\x1b[2J\u202egnp.exe\ud83d") == (
        "panic\n\u2400\u241b[2J\u27e8U+202E\u27e9gnp.exe\u27e8U+D83D\u27e9"
    )


@pytest.mark.parametrize("amount", [1, 40])
def test_the_page_of_a_huge_run_stays_small(tmp_path: Path, amount: int) -> None:
    evil = '"' * 50_000
    attachment = Attachment(name="é" * 300, path="attachments/p.png", media_type="image/png", size=1)
    (tmp_path / "attachments").mkdir()
    (tmp_path / "attachments" / "p.png").write_bytes(example.png(9, 9) + bytes(150_000))
    failed = [
        case(
            f"{number}é<>" * 100,
            message=evil,
            detail=evil,
            output=evil,
            begin=1.0,
            end=2.0,
            attachments=[attachment] * 20,
        )
        for number in range(300 * amount)
    ]
    passed = [case(f"{number}&" * 300, "passed", message=evil) for number in range(300 * amount)]
    lines = [Line(at=1 + n / 1e4, source="console", text=evil, level="error") for n in range(1000)]
    result = replace(example.finished().result, reason=evil * 10, dsn=evil * 10)
    finished = Finished(result=result, cases=(*failed, *passed))
    page = page_of(tmp_path, finished, Diagnosis(cause="test", sentence=evil * 50, evidence=tuple(lines)), lines)

    assert len(page.encode()) < MOST
    words = Read(page).text
    assert "characters are left out here, they are in results.xml" in words
    assert "lines are left out here, they are in timeline.jsonl" in words
    assert ("more are in results.xml" in words) == (amount > 1)


def test_the_log_of_a_failure_is_cut_from_afar(tmp_path: Path) -> None:
    lines = [Line(at=float(number), source="device", text="x" * 100) for number in range(100)]
    few = shown(lines, Budget(10_000), most=2_000, moment=90.0)
    assert [line.when for line in few.lines] == [f"{number:+.3f}".replace("-", "\u2212") for number in range(-5, 7)]
    assert [line.is_moment for line in few.lines].index(True) == 6  # the first line that came after it
    assert few.left_out == "88 lines are left out here, they are in timeline.jsonl"


def test_what_is_an_error_is_kept_from_afar_and_gaps_are_told() -> None:
    lines = [Line(at=float(n), source="device", text="x" * 100, level="error" if n == 7 else None) for n in range(100)]
    few = shown(lines, Budget(10_000), most=2_000, moment=90.0)
    assert few.lines[0].level == "error"
    assert few.lines[0].gap == 7
    assert few.lines[1].gap == 77
    assert {line.gap for line in few.lines[2:]} == {0}


def test_the_line_to_see_first_is_what_the_diagnosis_rests_on_else_the_nearest_that_is_bad() -> None:
    def line(at: float, level: Level | None, source: Source = "device") -> Line:
        return Line(at=at, source=source, text=f"at {at}", level=level)

    def first(*lines: Line, evidence: Sequence[Line] = ()) -> list[str]:
        few = shown(lines, Budget(10_000), most=9_000, moment=9.0, evidence=evidence)
        return [each.text for each in few.lines if each.is_decisive]

    said = [
        line(1, "error"),
        line(4, "error"),
        line(8, "warning"),
        line(9, "error", "test"),
        line(9, "error", "lifecycle"),
    ]
    assert first(*said) == ["at 4"]
    assert first(*said, evidence=said[:1]) == ["at 1"]
    assert first(*said[2:]) == ["at 8"]
    assert first(*said[3:]) == []
    assert not any(each.is_decisive for each in shown(said, Budget(10_000), most=9_000).lines)  # the end of a log


def test_a_log_takes_no_more_than_is_left() -> None:
    budget = Budget(500)
    few = shown([Line(at=float(n), source="device", text="x" * 100) for n in range(100)], budget, most=5_000)
    assert len(few.lines) == 3
    assert 0 <= budget.left < 200


def test_those_who_failed_first_do_not_take_the_log_of_all_others(tmp_path: Path) -> None:
    failed = [case(f"t::{number}", begin=1.0, end=2.0) for number in range(100)]
    lines = [Line(at=1 + n / 400, source="device", text="y" * 900) for n in range(300)]
    page = page_of(tmp_path, run(*failed), lines=lines)
    assert page.count('class="around"') == 100


def test_a_budget_counts_bytes_as_they_are_written() -> None:
    budget = Budget(1000)
    cut = budget.take("<é\x00" * 400, most=600, keep="ends")
    assert 300 < size(cut.text) <= 600
    assert cut.text.startswith("<é")
    assert cut.text.endswith("\x00")
    assert budget.left == 1000 - size(cut.text)
    assert Budget(0).take("abc", most=10, keep="end") == ("", 3)


def test_attachments_are_shown_only_if_they_cannot_act(tmp_path: Path) -> None:
    folder = tmp_path / "attachments"
    folder.mkdir()
    secret = tmp_path.parent / "elsewhere.txt"
    secret.write_text("of somebody else")
    (folder / "true.bin").write_bytes(example.png(4, 4))
    (folder / "false.png").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
    (folder / "page.html").write_text("<script>alert(1)</script>")
    (folder / "big.png").write_bytes(example.png(4, 4) + bytes(300_000))
    (folder / "notes.txt").write_text("torque <b>3.1</b> Nm")
    (folder / "link.txt").symlink_to(secret)
    os.mkfifo(folder / "pipe.txt")
    names = ["true.bin", "false.png", "page.html", "big.png", "notes.txt", "link.txt", "pipe.txt", "gone.txt"]
    paths = [*(f"attachments/{name}" for name in names), "../elsewhere.txt", str(secret)]
    files = [Attachment(name=path, path=path, media_type="image/png", size=9) for path in paths]
    page = page_of(tmp_path, run(case(attachments=tuple(files))))
    read = Read(page)
    links = {each["href"]: "download" in each for each in read.of("a") if (each["href"] or "").startswith("./att")}
    assert links == {
        "./attachments/true.bin": True,
        "./attachments/false.png": False,
        "./attachments/page.html": True,
        "./attachments/big.png": False,
        "./attachments/notes.txt": False,
    }
    images = [each["src"] or "" for each in read.of("img")]
    assert [image[:22] for image in images] == ["data:image/png;base64,"]
    assert "torque <b>3.1</b> Nm" in read.text
    assert "of somebody else" not in read.text
    assert read.text.count("(not in the folder)") == 5


def test_a_folder_for_an_attachment_leaves_nothing_open(tmp_path: Path) -> None:
    opened = {each.name for each in Path("/proc/self/fd").iterdir()}
    (tmp_path / "attachments").mkdir()
    folder = Attachment(name="x", path="attachments", media_type="text/plain", size=1)
    page_of(tmp_path, run(case(attachments=(folder,) * 3)))
    assert {each.name for each in Path("/proc/self/fd").iterdir()} == opened


def test_only_web_pages_are_linked_to() -> None:
    assert web_page("https://ci.example/job/1") == "https://ci.example/job/1"
    for url in (
        "javascript:alert(1)",
        "data:text/html,x",
        "//host/x",
        "https://",
        "https://me@host/",
        "https://[",
        None,
    ):
        assert web_page(url) is None
    assert web_page("https://host/\u202egnp") is None


def test_a_command_in_the_advice_can_be_told_from_its_words(tmp_path: Path) -> None:
    diagnosis = Diagnosis(
        cause="bench", sentence="x", advice="free it with `roboticks-tasks boards free <b>`, then wait"
    )
    assert "<code>roboticks-tasks boards free &lt;b&gt;</code>, then wait" in page_of(tmp_path, run(), diagnosis)
    diagnosis = replace(diagnosis, advice="a lone ` says nothing")
    assert "a lone ` says nothing" in page_of(tmp_path, run(), diagnosis)


def test_a_test_has_the_same_fragment_in_every_page(tmp_path: Path) -> None:
    twice = case("tests/test_a.py::test_a[1]")
    read = Read(page_of(tmp_path, run(twice, twice, case("tests/test_a.py::test_a[2]", "passed"))))
    ids = [attributes["id"] for _, attributes in read.tags if (attributes.get("id") or "").startswith("test-")]
    first, other = anchor_of("tests/test_a.py::test_a[1]"), anchor_of("tests/test_a.py::test_a[2]")
    assert ids == [first, f"{first}-2", other]
    assert {f"#{each}" for each in ids} <= {link["href"] for link in read.of("a")}


def test_a_run_that_broke_before_its_tests_shows_the_log_around_that(tmp_path: Path) -> None:
    whole = example.finished()
    steps = (*whole.result.steps[:4], StepResult(name="await_dsn", outcome="failed", duration=2.207, error="no DSN"))
    finished = replace(whole, result=replace(whole.result, steps=steps, tests=None), cases=())
    line = Line(at=example.BEGAN + 4.5, source="console", text="Kernel panic - not syncing", level="error")
    words = Read(page_of(tmp_path, finished, lines=[line])).text
    assert "Around the end of await_dsn" in words
    assert "Kernel panic - not syncing" in words
    assert "No test has run." in words


def test_a_run_without_events_tests_or_timeline_has_a_page(tmp_path: Path) -> None:
    result = replace(example.finished().result, steps=(), teardown=None, tests=None, compositions=(), dsn=None)
    words = Read(page_of(tmp_path, Finished(result=result), Diagnosis(cause="none", sentence=""))).text
    assert words.count(result.reason) == 1


def test_a_reason_is_told_once(tmp_path: Path) -> None:
    whole = example.finished()
    reason = "no DSN within 30 s;\n  the log says nothing"
    steps = (*whole.result.steps[:4], StepResult(name="await_dsn", outcome="failed", duration=2.2, error=reason))
    finished = replace(whole, result=replace(whole.result, steps=steps, reason=reason), events=(), cases=())
    sentence = f"The bench is to blame: {' '.join(reason.split())}"
    words = Read(page_of(tmp_path, finished, Diagnosis(cause="bench", sentence=sentence))).text
    assert words.count("no DSN within 30 s") == 1
    other = Read(page_of(tmp_path, finished, Diagnosis(cause="bench", sentence="x"))).text
    assert "The run's own word: no DSN" in other


def test_what_a_failure_is_called_is_not_told_twice(tmp_path: Path) -> None:
    named = case("t::a", properties=(("roboticks.nodeid", "t::a"), ("rig", "7")))
    words = Read(page_of(tmp_path, run(named))).text
    assert "rig: 7" in words
    assert "roboticks.nodeid" not in words


def test_the_chart_has_the_steps_at_their_times_and_the_failures() -> None:
    chart = draw(example.finished())
    bars = {row.name: row.bars for row in chart.rows}
    assert bars["ensure_board"][0].x == 0
    assert bars["teardown"][0].x + bars["teardown"][0].width == pytest.approx(100, abs=0.1)
    assert bars["deploy"][0].x == pytest.approx(bars["await_session"][0].x + bars["await_session"][0].width, abs=0.1)
    assert {bar.tone for bar in bars["tests"]} == {"passed", "failed", "error", "skipped"}
    assert len(bars["parts"]) == 7
    assert len(chart.failures) == 2
    assert [label for _, label in chart.ticks] == ["0 s", "5 s", "10 s", "15 s", "20 s"]


def test_a_chart_of_lost_events_has_the_steps_end_to_end() -> None:
    chart = draw(replace(example.finished(), events=()))
    assert [row.start for row in chart.rows[:3]] == ["0.000 s", "0.412 s", "1.75 s"]


def test_durations_are_said_as_a_person_says_them() -> None:
    assert [seconds(value) for value in (0.0123, 2.5, 61, 3725)] == ["0.012 s", "2.50 s", "1 min 01 s", "1 h 02 min"]


def test_a_page_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        write_page(tmp_path / "none", example.finished(), example.diagnosis(), None)
