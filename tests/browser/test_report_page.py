"""The report in a real browser: what a person does with it, and what it must not do with a person."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from roboticks_tasks.models import Attachment, StepResult, TeardownPart, TeardownReport
from roboticks_tasks.reporting.page import anchor_of, write_page
from roboticks_tasks.reporting.values import Case, Diagnosis, Finished, Line, Source
from tests.browser import example
from tests.browser.chromium import CONTRASTS
from tests.browser.conftest import Open
from tests.browser.pictures import check_picture

BROWNOUT = "tests/test_arm.py::test_the_arm_comes_home_after_a_brownout"
GRIPPER = "tests/test_arm.py::test_the_gripper_lets_go_when_the_arm_faults"
JOINTS = "tests/test_arm.py::test_the_arm_reports_its_joints"

PICTURE = Path(__file__).with_name("report.png")
"""What the README shows; `REDRAW=1 pytest tests/browser` draws it anew."""

HEIGHT = 1800

STRICT = "sandbox; default-src 'none'; img-src 'self'; style-src 'self';"
"""What Jenkins sends with every artifact unless told otherwise."""

UNFOLD = "document.querySelectorAll('details').forEach(each => { each.open = true; })"

replace = msgspec.structs.replace


def entry_of(page: Page, nodeid: str) -> Locator:
    """Return what the page has of a test."""
    return page.locator(f"#{anchor_of(nodeid)}")


def search(page: Page, word: str) -> None:
    page.keyboard.press("/")
    page.keyboard.type(word)


def test_the_page_opens_with_the_answer_and_asks_nobody(open_report: Open, report: Path) -> None:
    page = open_report(report)
    expect(page.get_by_role("heading", level=1)).to_have_text(example.diagnosis().sentence)
    expect(page.get_by_role("heading", level=1)).to_be_in_viewport()
    expect(page.locator("header").get_by_text("encoder lost its index, entering fault")).to_be_visible()
    expect(page.get_by_role("link", name="hil (github-actions)")).to_have_attribute(
        "href", "https://github.com/acme/arm/actions/runs/1234567890"
    )


def test_a_failure_has_what_the_device_said_around_it(open_report: Open, report: Path) -> None:
    page = open_report(report)
    failure = entry_of(page, BROWNOUT)
    expect(failure.locator(".message")).to_contain_text('arm/state is "fault"')
    expect(failure.get_by_text("power.dip(volts=10.2, seconds=0.3)")).to_be_visible()
    line = failure.locator("tr.s-console", has_text="bus-off")
    expect(line).to_be_visible()
    expect(line.locator("td").first).to_have_text("\u22124.308")  # before the test ended
    error = failure.locator("tr.s-device.error")
    expect(error).to_contain_text("encoder lost its index")
    # The log is long; it is opened at what went wrong.
    assert failure.locator(".scroll").evaluate("each => each.scrollTop") > 0
    box, frame = error.bounding_box(), failure.locator(".scroll").bounding_box()
    assert box is not None
    assert frame is not None
    assert frame["y"] < box["y"] < frame["y"] + frame["height"]


def test_attachments_are_there(open_report: Open, report: Path) -> None:
    page = open_report(report)
    picture = entry_of(page, BROWNOUT).get_by_role("img")
    picture.scroll_into_view_if_needed()
    page.wait_for_function("image => image.naturalWidth === 96", arg=picture.element_handle())
    entry_of(page, BROWNOUT).get_by_text("Its beginning").click()
    expect(page.get_by_text("t,j1,j2,j3")).to_be_visible()


def test_a_search_finds_names_messages_and_logs(open_report: Open, report: Path) -> None:
    page = open_report(report)
    search(page, "KEEPS_its_rate")
    expect(page.locator("#found")).to_have_text("8 of 16 tests")
    expect(
        page.get_by_role("link", name="test_a_topic_keeps_its_rate[100Hz]")
    ).to_be_visible()  # although it was folded
    expect(entry_of(page, BROWNOUT)).to_be_hidden()

    page.keyboard.press("Escape")
    expect(page.locator("#found")).to_have_text("")
    expect(page.get_by_role("link", name="test_a_topic_keeps_its_rate[100Hz]")).to_be_hidden()  # folded again

    search(page, "dipping bench-3")
    expect(entry_of(page, BROWNOUT).get_by_text("dipping bench-3 to 10.2 V")).to_be_visible()
    expect(entry_of(page, GRIPPER)).to_be_hidden()
    # What is typed is looked for a moment later, and again when more of it has come.
    page.wait_for_function("[...CSS.highlights.get('found')].map(String).join() === 'dipping bench-3'")

    page.locator("#search").fill("no such thing")
    expect(page.locator("#found")).to_have_text("0 of 16 tests")


def test_outcomes_and_sources_can_be_taken_out(open_report: Open, report: Path) -> None:
    page = open_report(report)
    page.get_by_role("button", name="failed 2").click()
    expect(entry_of(page, BROWNOUT)).to_be_hidden()
    expect(page.locator("#found")).to_have_text("14 of 16 tests")
    page.get_by_role("button", name="failed 2").click()
    expect(entry_of(page, BROWNOUT)).to_be_visible()

    failure = entry_of(page, BROWNOUT)
    page.get_by_role("button", name="bus", exact=True).click()
    expect(failure.locator("tr.s-bus").first).to_be_hidden()
    expect(failure.locator("tr.s-console").first).to_be_visible()
    page.get_by_role("button", name="warnings only").click()
    expect(failure.locator("tr.s-console", has_text="bus-off")).to_be_visible()
    expect(failure.locator("tr.s-console", has_text="can0: restarted")).to_be_hidden()


def test_keys_go_from_failure_to_failure(open_report: Open, report: Path) -> None:
    page = open_report(report)
    for key, nodeid in (("j", BROWNOUT), ("j", GRIPPER), ("j", GRIPPER), ("k", BROWNOUT)):
        page.keyboard.press(key)
        expect(entry_of(page, nodeid)).to_be_focused()
        expect(entry_of(page, nodeid).locator("h3")).to_be_in_viewport()
    search(page, "jk")
    expect(page.locator("#search")).to_have_value("jk")


def test_a_link_to_a_test_opens_what_it_is_folded_in(open_report: Open, report: Path) -> None:
    page = open_report(report, f"#{anchor_of(JOINTS)}")
    expect(entry_of(page, JOINTS)).to_be_in_viewport()

    search(page, "slip")
    expect(entry_of(page, BROWNOUT)).to_be_hidden()
    page.evaluate("hash => { location.hash = hash; }", anchor_of(BROWNOUT))
    expect(entry_of(page, BROWNOUT)).to_be_in_viewport()  # the search is over
    page.evaluate("() => { location.hash = '%E0%A4%A'; }")  # is no fragment, and no error


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_as_dark_as_the_desktop_or_as_one_wants(open_report: Open, report: Path, scheme: str) -> None:
    page = open_report(report, color_scheme=scheme)

    def brightness() -> int:
        page.evaluate("() => new Promise(requestAnimationFrame)")
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(number) for number in re.findall(r"\d+", colour)[:3])

    assert (brightness() > 600) == (scheme == "light")
    page.locator("#theme").click()
    assert (brightness() > 600) == (scheme == "dark")
    expect(page.locator("#theme")).to_have_text("Dark" if scheme == "dark" else "Light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read_and_each_heading_follows_its_own(open_report: Open, report: Path, scheme: str) -> None:
    page = open_report(report, color_scheme=scheme)
    page.evaluate(UNFOLD)
    page.get_by_role("button", name="bus", exact=True).click()
    assert page.evaluate(CONTRASTS) == []
    levels = page.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(each => Number(each.tagName[1]))")
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    expect(page.get_by_role("main")).to_have_count(1)
    expect(page.get_by_role("search")).to_have_count(1)


def test_it_fits_a_telephone(open_report: Open, report: Path) -> None:
    page = open_report(report, viewport={"width": 390, "height": 844})
    page.evaluate(UNFOLD)
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_printed_page_has_all_of_a_failure_and_no_buttons(open_report: Open, report: Path) -> None:
    page = open_report(report)
    page.emulate_media(media="print")
    expect(page.get_by_text("dipping bench-3 to 10.2 V")).to_be_visible()
    expect(page.locator(".tools")).to_be_hidden()
    expect(entry_of(page, BROWNOUT).locator("tr.s-bus").last).to_be_visible()
    frame = entry_of(page, BROWNOUT).locator(".scroll")
    assert frame.evaluate("each => each.scrollHeight - each.clientHeight") == 0  # nothing is behind a scroll bar
    assert page.pdf().startswith(b"%PDF")


def test_without_scripts_nothing_but_the_tools_is_missing(open_report: Open, report: Path) -> None:
    page = open_report(report, java_script_enabled=False)
    expect(page.get_by_role("heading", level=1)).to_have_text(example.diagnosis().sentence)
    expect(entry_of(page, BROWNOUT).locator("tr.s-console", has_text="bus-off")).to_be_visible()
    expect(page.locator(".tools")).to_be_hidden()
    expect(page.locator("#theme")).to_be_hidden()
    page.get_by_role("heading", name="Passed 12").click()
    expect(entry_of(page, JOINTS)).to_be_visible()


def test_without_scripts_and_styles_it_still_reads_from_top_to_bottom(browser: Browser, report: Path) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        headers = {"Content-Security-Policy": STRICT}
        content = report.read_text()
        page.route("**/*", lambda route: route.fulfill(body=content, content_type="text/html", headers=headers))
        page.goto("http://jenkins.test/report.html")
        expect(page.locator(".tools")).to_be_hidden()
        tops = [
            (page.get_by_role("heading", level=1), "answer"),
            (page.get_by_text("bench-3", exact=True), "facts"),
            (page.locator("rect.o-failed").first, "chart"),
            (entry_of(page, BROWNOUT).locator("h3"), "failure"),
            (entry_of(page, BROWNOUT).locator("tr.s-console", has_text="bus-off"), "log"),
            (page.get_by_role("heading", name="Passed 12"), "passed"),
        ]
        places = []
        for each, what in tops:
            box = each.bounding_box()
            assert box is not None, what
            places.append(box["y"])
        assert places == sorted(places)


CORPUS = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "</style><script>alert(3)</script>",
    "</title><img src=x onerror=alert(4)>",
    '"><img src=x onerror=alert(5)>',
    "' onmouseover='alert(6)' x='",
    '" autofocus onfocus="alert(7)" tabindex="0',
    "</pre></textarea><svg/onload=alert(8)>",
    "<!--><iframe srcdoc='<script>parent.alert(9)</script>'>",
    "javascript:alert(10)",
    "JaVaScRiPt:alert(11)//http://x/",
    "data:text/html,<script>alert(12)</script>",
    "{{ 7 * 7 }}{% for x in y %}",
    "<svg><animate onbegin=alert(13) attributeName=x dur=1s>",
    "\u2028alert(14)\u2029",
    "<math><mtext></table><mglyph><style><!--</style><img title='--&gt;&lt;img src=x onerror=alert(15)&gt;'>",
    "<base href=http://evil.test/><meta http-equiv=refresh content='0;url=http://evil.test/'>",
    "<link rel=stylesheet href=http://evil.test/x.css><form action=http://evil.test/><button>x",
    "\x00<\x00script>alert(16)</script>\ud800\u202e",
)
"""What has acted in somebody's page before."""


def hostile_run(words: Sequence[str], files: Sequence[str] = ()) -> tuple[Finished, Diagnosis, list[Line]]:
    """Return a run in which everybody says one of `words` after another, in every field.

    Some tests have attached one of `files`, which are in the run's folder.
    """
    cases: list[Case] = []
    lines: list[Line] = []
    attachments = tuple(Attachment(name=each, path=each, media_type=each, size=1) for each in (*words, *files))
    for number, word in enumerate(words):
        at = example.BEGAN + number
        values: dict[str, Any] = dict.fromkeys(("classname", "name", "message", "detail", "output", "file"), word)
        case = Case(
            nodeid=word,
            outcome="failed",
            duration=1,
            begin=at,
            end=at + 1,
            worker=word,
            attachments=attachments[number :: len(words)],
            properties=((word, word),),
            **values,
        )
        cases += [case, replace(case, outcome="passed"), replace(case, outcome="skipped")]
        lines.append(Line(at=at, source="console", text=word, level="error"))
        lines.append(Line(at=at, source=f'x" onclick="{word}', text=word))  # type: ignore[arg-type]
    word = "".join(words)
    result = example.finished().result
    provenance = replace(result.provenance, commit=word, branch=word, url="javascript:alert(20)", ci=word, job=word)
    part = TeardownPart(name=word, ok=False, detail=word, duration=1)
    result = replace(
        result,
        steps=tuple(StepResult(name=each, outcome="failed", duration=1, error=each) for each in words),
        teardown=TeardownReport(parts=(part,)),
        provenance=provenance,
        compositions=tuple(replace(each, name=word, mode=word) for each in result.compositions),
        **dict.fromkeys(("run_id", "profile", "verdict", "reason", "started_at", "dsn", "session_id"), word),
        **dict.fromkeys(("board_id", "kept_until"), word),
    )
    diagnosis = Diagnosis(cause="bench", sentence=word, advice=word, evidence=tuple(lines))
    return Finished(result=result, cases=tuple(cases)), diagnosis, lines


@pytest.mark.parametrize("bypass", [False, True], ids=["policy", "no-policy"])
def test_nothing_that_is_said_acts(open_report: Open, tmp_path: Path, bypass: bool) -> None:
    files = [f"attachments/{number}{word.replace('/', '')}.txt" for number, word in enumerate(CORPUS[:-1])]
    (tmp_path / "attachments").mkdir()
    for each in (*files, "javascript:alert(17)", "#.txt"):
        (tmp_path / each).write_text(each)
    finished, diagnosis, lines = hostile_run(CORPUS, (*files, "javascript:alert(17)", "#.txt"))
    report = write_page(tmp_path, finished, diagnosis, example.Recorded(lines, finished.cases))
    # Without its policy too: the escaping has to hold by itself.
    page = open_report(report, bypass_csp=bypass)
    page.evaluate(UNFOLD)
    for word in ("alert", '"><img src=x onerror=alert(5)>', "</script>"):
        page.locator("#search").fill(word)
        expect(page.locator("#found")).to_contain_text(f"of {len(finished.cases)} tests")
    page.locator("#search").fill("")
    for entry in page.locator(".case h3").all():
        entry.hover()
    page.keyboard.press("j")
    assert page.locator("iframe, form, base, link, object, embed, svg animate").count() == 0
    assert page.locator("script").count() == 1
    links = page.eval_on_selector_all("a", "all => all.map(each => each.href)")
    beside = report.parent.as_uri() + "/"
    assert [each for each in links if not each.startswith(beside)] == []
    assert sum("/attachments/" in each for each in links) >= len(files)
    handlers = "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(n => n.startsWith('on'))"
    assert page.evaluate(handlers) == []
    expect(page.locator(".case").first.locator(".message")).to_contain_text(CORPUS[0])


class Endless:
    """A timeline of 100 MB, of which only what is asked for is ever made."""

    lines = 1_000_000

    def slice_of(self, nodeid: str, *, most: int = 400, before: float = 2.0, after: float = 1.0) -> list[Line]:
        """Return as many lines as may be."""
        return self.span(example.BEGAN, example.BEGAN + 3, most=most)

    def span(self, begin: float, end: float, *, most: int) -> list[Line]:
        """Return as many lines as may be."""
        text = 'can0  123  [8]  DE AD BE EF <00> "11" & 22 33  rx on can0 while the arm moves to its home position'
        step = (end - begin) / most
        return [Line(at=begin + n * step, source="console", text=f"{n} {text}") for n in range(most)]

    def tail(self, source: Source, count: int) -> list[Line]:
        """Return the last lines of a source."""
        return self.span(example.BEGAN, example.BEGAN + 3, most=count)


def large_run(*, failed: int, count: int = 5000) -> Finished:
    """Return a run of many tests, of which the first ones failed."""
    cases = []
    for number in range(count):
        name = f"test_a_topic_keeps_its_rate[{number}-prod-lidar/points-best-effort]"
        values: dict[str, Any] = {"nodeid": f"tests/navigation/test_topics_{number % 50}.py::{name}"}
        if number < failed:
            values |= {"message": f"rate of {number} is 9.1 Hz, not 10", "detail": example.TRACEBACK * 20}
        cases.append(
            Case(
                classname=f"tests.navigation.test_topics_{number % 50}",
                name=name,
                outcome="failed" if number < failed else "passed",
                duration=0.01,
                begin=example.BEGAN + number * 0.01,
                end=example.BEGAN + number * 0.01 + 0.01,
                **values,
            )
        )
    return replace(example.finished(), cases=tuple(cases))


def test_five_thousand_tests_and_a_hundred_megabytes_of_log_are_a_page(open_report: Open, tmp_path: Path) -> None:
    report = write_page(tmp_path, large_run(failed=500), example.diagnosis(), Endless())
    assert report.stat().st_size < 5_000_000
    page = open_report(report)
    assert page.locator("*").count() < 70_000
    assert page.locator(".entry").count() == 5000
    search(page, "[4999-")
    expect(page.locator("#found")).to_have_text("1 of 5,000 tests")
    expect(page.get_by_text("test_a_topic_keeps_its_rate[4999-prod")).to_be_visible()


def test_the_picture_in_the_readme_is_of_this_page(open_report: Open, report: Path) -> None:
    page = open_report(report, viewport={"width": 1280, "height": HEIGHT})
    shown = words_in_view(page)
    check_picture(PICTURE, page, shown)


def words_in_view(page: Page) -> list[str]:
    """Return what the page shows above its log, whatever font the machine has."""
    return [line.strip() for line in page.locator("header, .lifecycle, .case h3").all_inner_texts() if line.strip()]
