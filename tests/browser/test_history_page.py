"""The history's page in a real browser, and its picture in the README."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from roboticks_tasks.history import History
from roboticks_tasks.history.page import write_page
from roboticks_tasks.history.report import look
from roboticks_tasks.history.rows import Window
from tests.browser.chromium import CONTRASTS
from tests.browser.conftest import Open
from tests.browser.pictures import check_picture
from tests.unit.made_history import finished, make

PICTURE = Path(__file__).with_name("history.png")
"""What the README shows; `REDRAW=1 pytest tests/browser` draws it anew."""

HEIGHT = 1150

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m$\\frac{1}$ & ]]> \N{ROBOT FACE}"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of a history with a flaky test and a flaky board."""
    folder = tmp_path_factory.mktemp("history")
    made = make(
        4, runs=800, tests=12, boards=5, runs_per_commit=16, breaks=0.1, flaky_tests={7: 0.08}, flaky_boards={3: 0.03}
    )
    with pytest.MonkeyPatch.context() as patch, History.open(folder / "history.sqlite3") as history:
        patch.setattr("roboticks_tasks.history.store.KEPT_DAYS", 1e6)
        history.record(*(finished(each, number, begin=BEGIN) for number, each in enumerate(made)))
        write_page(folder / "history.html", look(history, Window()))
    return folder / "history.html"


def test_the_page_shows_what_is_flaky_and_its_plots_without_a_script_or_a_request(
    open_report: Open, page_file: Path
) -> None:
    page = open_report(page_file)
    expect(page.locator("p.bad")).to_have_count(2)
    expect(page.locator("p.bad").first).to_contain_text("test_7: disagreed in")
    expect(page.locator("p.bad").last).to_contain_text("board-3: disagreed in")
    expect(page.locator("figure svg")).to_have_count(4)
    assert page.locator("script").count() == 0
    ids = page.eval_on_selector_all("[id]", "all => all.map(each => each.id)")
    assert len(ids) == len(set(ids))


def test_it_is_dark_where_the_person_wants_it_dark(open_report: Open, page_file: Path) -> None:
    looks = []
    for scheme in ("light", "dark"):
        page = open_report(page_file, color_scheme=scheme)
        text = page.locator("figure text").first
        looks.append((colour(page, "body", "backgroundColor"), text.evaluate("each => getComputedStyle(each).fill")))
    assert looks[0] != looks[1]
    assert [fill for _, fill in looks] == ["rgb(29, 32, 37)", "rgb(228, 230, 234)"]


def colour(page: Page, selector: str, name: str) -> str:
    return str(page.eval_on_selector(selector, f"each => getComputedStyle(each).{name}"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(open_report: Open, page_file: Path, scheme: str) -> None:
    assert open_report(page_file, color_scheme=scheme).evaluate(CONTRASTS) == []


def test_it_fits_a_telephone(open_report: Open, page_file: Path) -> None:
    page = open_report(page_file, viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_what_tests_and_boards_are_called_is_text(open_report: Open, tmp_path: Path) -> None:
    made = make(4, runs=300, tests=6, boards=3, runs_per_commit=12, flaky_tests={2: 0.2}, flaky_boards={1: 0.2})
    with History.open(tmp_path / "h") as history:
        history.record(*(finished(each, number) for number, each in enumerate(made)))
        history.connection.execute("UPDATE test SET nodeid = ? || nodeid", (HOSTILE,))
        history.connection.execute("UPDATE board SET name = ? || name", (HOSTILE,))
        history.connection.execute("UPDATE run SET reason = ?, board = ?, branch = ?", (HOSTILE,) * 3)
        write_page(tmp_path / "h.html", look(history, Window()))
    page = open_report(tmp_path / "h.html")
    expect(page.locator("p.bad").first).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("img").count() == 0


def test_the_picture_in_the_readme_is_of_this_page(open_report: Open, page_file: Path) -> None:
    page = open_report(page_file, viewport={"width": 1280, "height": HEIGHT})
    shown = [line.strip() for line in page.locator("h1, h2, p").all_inner_texts() if line.strip()]
    check_picture(PICTURE, page, shown)
