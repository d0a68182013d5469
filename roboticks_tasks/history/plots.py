"""Plots of the history as SVG that stands in a page and follows its colours."""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from roboticks_tasks.errors import ConfigError
from roboticks_tasks.history.values import FlakyLine
from roboticks_tasks.reporting.words import harmless

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#010203"
"""Stands for the colour of the page's text, which the page decides."""

VERDICTS = {
    "passed": "#5b8c6a",
    "failed": "#c8372d",
    "bench-error": "#b9a14a",
    "backend-error": "#7a68a6",
    "config-error": "#4a7fb5",
    "cancelled": "#8a8f98",
}

POINTS, BUCKETS = 600, 40
"""Points of a plot at most, and columns or steps of a line."""

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "roboticks",
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud, and takes the page's font
    "text.parse_math": False,  # a test's name is no formula
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}


def verdicts(rows: Sequence[tuple[float, str]]) -> str:
    """Draw how the runs ended over time."""
    with _drawn("verdicts", height=2.4) as (axes, svg):
        begin, end = rows[0][0], rows[-1][0]
        width = max((end - begin) / BUCKETS, 1.0)
        counts = [Counter[str]() for _ in range(BUCKETS)]
        for began, verdict in rows:
            counts[min(BUCKETS - 1, int((began - begin) / width))][verdict] += 1
        days = [_day(begin + (index + 0.5) * width) for index in range(BUCKETS)]
        bottom = [0] * BUCKETS
        for verdict, colour in VERDICTS.items():
            heights = [each[verdict] for each in counts]
            if any(heights):
                axes.bar(days, heights, width / 86_400 * 0.85, bottom, color=colour, label=verdict)
                bottom = [low + high for low, high in zip(bottom, heights, strict=True)]
        _dated(axes)
        axes.set_ylabel("runs")
        axes.legend(loc="upper left", frameon=False, ncols=6, bbox_to_anchor=(0, 1.2))
    return svg.pop()


def waits(rows: dict[str, list[tuple[float, float]]]) -> str:
    """Draw how long steps took over time, in seconds: each run a point, and medians as a line."""
    with _drawn("waits", height=2.8) as (axes, svg):
        for (name, points), colour in zip(rows.items(), ("#4a7fb5", "#c8772d"), strict=False):
            few = points[:: -(-len(points) // POINTS)]
            axes.plot(
                [_day(at) for at, _ in few], [took for _, took in few], ".", markersize=2, alpha=0.35, color=colour
            )
            size = -(-len(points) // BUCKETS)
            parts = [points[index : index + size] for index in range(0, len(points), size)]
            middles = [(median(_day(at) for at, _ in part), median(took for _, took in part)) for part in parts]
            axes.plot([x for x, _ in middles], [y for _, y in middles], color=colour, linewidth=1.6, label=name)
        _dated(axes)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("seconds")
        axes.legend(loc="upper left", frameon=False, ncols=2, bbox_to_anchor=(0, 1.2))
    return svg.pop()


def rates(lines: Sequence[FlakyLine], name: str, label: str) -> str:
    """Draw rates with their intervals; what is named stands out."""
    with _drawn(name, height=0.6 + 0.26 * max(3, len(lines))) as (axes, svg):
        for place, each in enumerate(lines):
            colour = VERDICTS["failed"] if each.is_flaky else VERDICTS["cancelled"]
            axes.plot([100 * each.low, 100 * each.high], [place, place], color=colour, linewidth=2)
            axes.plot([100 * each.rate], [place], "o", color=colour, markersize=5)
        axes.set_yticks(range(len(lines)), [_short(each.name) for each in lines])
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
    return svg.pop()


@contextmanager
def _drawn(name: str, *, height: float) -> Iterator[tuple[Axes, list[str]]]:
    """Lend axes; when the block ends the list holds the SVG element, whose ids begin with `name`."""
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            f"the page has plots, and they need matplotlib: {error}",
            remedy="install it with `pip install 'roboticks-tasks[plots]'`",
        ) from error
    svg: list[str] = []
    # Fonts do not matter here: the browser chooses them, and knows more characters than this machine.
    with rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = Figure(figsize=(9, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure.subplots(), svg
        stream = io.StringIO()
        nothing: Any = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", metadata=nothing, transparent=True)
    svg.append(_inlined(stream.getvalue(), name))


def _inlined(document: str, name: str) -> str:
    """Return a document's element, its ids its own in the page, its ink the page's."""
    element = document[document.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, count=1, flags=re.DOTALL)
    element = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", element)
    return element.replace(INK, "currentColor")


def _dated(axes: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=UTC)  # type: ignore[no-untyped-call]  # matplotlib has no types there
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]  # likewise


def _day(seconds: float) -> float:
    """Return a time as matplotlib counts: days since the epoch, kept to years that calendars have."""
    return min(max(seconds, 0.0), datetime(9000, 1, 1, tzinfo=UTC).timestamp()) / 86_400


def _short(name: str) -> str:
    name = harmless(name, 2000)
    return name if len(name) <= 48 else f"…{name[-47:]}"
