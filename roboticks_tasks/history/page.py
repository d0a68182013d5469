"""The history as one page that needs nothing else: no script, no request."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from roboticks_tasks import disk
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.history import wording
from roboticks_tasks.history.report import Looked
from roboticks_tasks.reporting.words import harmless

HERE = Path(__file__).parent

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""No script and no request; styles are ours and those that matplotlib writes into what it draws."""

DRAWN = 20
"""Tests, and boards, that are drawn at most."""


def write_page(path: Path, looked: Looked) -> None:
    """Write the page to `path`; ConfigError when it cannot be written, or matplotlib is missing."""
    content = render(looked).encode("utf-8", "replace")
    try:
        disk.write_atomically(path, content)
    except ConfigError as error:
        words = error.__cause__.strerror if isinstance(error.__cause__, OSError) else error
        raise ConfigError(f"the page {path} cannot be written: {words}", remedy="name another file") from error


def render(looked: Looked) -> str:
    """Return the page."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["harmless"] = harmless
    environment.filters["trend"] = wording.trend
    style = (HERE / "page.css").read_text(encoding="utf-8")
    return environment.from_string((HERE / "page.html.j2").read_text(encoding="utf-8")).render(
        report=looked.report,
        policy=POLICY,
        style=Markup(style),  # noqa: S704 - a file of ours
        plots={title: Markup(svg) for title, svg in _plots(looked).items()},  # noqa: S704 - drawn here, text escaped
        flaky_tests=wording.flaky_tests(looked.report),
        flaky_boards=wording.flaky_boards(looked.report),
        others=wording.others(looked.report),
        empty=wording.EMPTY,
    )


def _plots(looked: Looked) -> dict[str, str]:
    """Return the plots that there is something for, by title."""
    from roboticks_tasks.history import plots

    waits: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for step in looked.steps:
        if step.name in wording.WAITS:
            waits[step.name].append((step.began, step.duration))
    report, found = looked.report, {}
    if looked.verdicts:
        found["Verdicts"] = plots.verdicts(looked.verdicts)
    if waits:
        found["Waiting for the device and its session"] = plots.waits(waits)
    if tests := report.tests[:DRAWN]:
        found["Tests that disagreed, 95 % interval"] = plots.rates(tests, "tests", "% of runs")
    if boards := report.boards[:DRAWN]:
        found["Boards' runs with a disagreement, 95 % interval"] = plots.rates(boards, "boards", "% of runs")
    return found
