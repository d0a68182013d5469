"""A real Chromium, and a page in it that is watched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, expect, sync_playwright

from roboticks_tasks.reporting.page import write_page
from tests.browser import example
from tests.browser.chromium import ARGUMENTS
from tests.parts import require

PATIENCE = 60_000
"""Milliseconds that a busy machine may take for what is a matter of one."""


class Open(Protocol):
    """Opens a report in a browser context of its own."""

    def __call__(self, report: Path, fragment: str = "", **context: Any) -> Page:
        """Return the page; what it must not do is noted, and fails the test in the end."""
        ...


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Lend a browser; it lasts no longer than a module, as its event loop would be in the way of other tests."""
    expect.set_options(timeout=PATIENCE)
    program = require("chromium")
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program, args=ARGUMENTS) as browser,
    ):
        yield browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of the example."""
    folder = tmp_path_factory.mktemp("run")
    example.attach(folder)
    finished = example.finished()
    return write_page(folder, finished, example.diagnosis(), example.Recorded(example.lines(), finished.cases))


@pytest.fixture
def open_report(browser: Browser) -> Iterator[Open]:
    """Open reports; a request that leaves, an error, or a violation of the policy fails the test."""
    contexts: list[BrowserContext] = []
    wrongs: list[str] = []

    def open_report(report: Path, fragment: str = "", **context: Any) -> Page:
        options = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light", **context}
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        url = report.as_uri()
        page.on("console", lambda message: wrongs.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrongs.append(str(error)))
        page.on("dialog", lambda dialog: _refuse(wrongs, dialog))
        page.on("request", lambda request: _note(wrongs, request.url, url))
        page.goto(url + fragment)
        return page

    yield open_report
    for each in contexts:
        each.close()
    assert wrongs == []


def _refuse(wrongs: list[str], dialog: Dialog) -> None:
    wrongs.append(f"dialog: {dialog.message}")
    dialog.dismiss()


def _note(wrongs: list[str], asked: str, url: str) -> None:
    if asked.partition("#")[0] != url and not asked.startswith("data:image/"):
        wrongs.append(f"request: {asked}")
