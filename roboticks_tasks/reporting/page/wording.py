"""How the page words what a run is: numbers, times, the facts of the run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from roboticks_tasks.models import RunResult
from roboticks_tasks.reporting.page.text import shorten
from roboticks_tasks.reporting.values import Diagnosis

LONGEST = 300
"""Characters of a fact; what is longer is nothing that a person reads."""

CAUSES = {
    "change": "the change",
    "test": "the test",
    "bench": "the bench",
    "platform": "the platform",
    "profile": "the profile",
    "cancelled": "cancelled",
    "bug": "a bug of roboticks-tasks",
}


class Fact(NamedTuple):
    """A fact of the run; `href` is a page about it."""

    name: str
    value: str
    href: str | None = None


def seconds(value: float, *, short: bool = False) -> str:
    """Return a duration as a person says it."""
    if value >= 3600:
        hours, rest = divmod(round(value / 60), 60)
        return f"{hours} h" if short and not rest else f"{hours} h {rest:02} min"
    if value >= 60:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min" if short and not rest else f"{minutes} min {rest:02} s"
    if short:
        return f"{value:g} s" if value < 1 else f"{round(value, 1):g} s"
    return f"{value:.3f} s" if value < 1 else f"{value:.2f} s"


def relative(at: float, moment: float | None) -> str:
    """Return when a line was said: in seconds from `moment`, else by the clock, in UTC."""
    if moment is not None:
        return f"{at - moment:+.3f}".replace("-", "\u2212")
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]
    except (OverflowError, ValueError, OSError):
        return "?"


def size_of(count: int) -> str:
    """Return a number of bytes as a person says it."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB" if count >= 1e3 else f"{count} bytes"


def web_page(url: str | None) -> str | None:
    """Return `url` if following it can only open a page: http or https, a host, and nobody's name in it."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return None
    is_page = parts.scheme in {"http", "https"} and parts.hostname and "@" not in parts.netloc
    return url if url and is_page and url.isprintable() and len(url) < 2000 else None


def facts(result: RunResult, diagnosis: Diagnosis) -> list[Fact]:
    """Return what is known of a run, in the order in which one asks."""
    change = result.provenance
    commit = (change.commit or "")[:12] + (" with local changes" if change.commit and change.is_dirty else "")
    page = web_page(change.url)
    job = change.job or change.ci
    known = (
        Fact("Cause", CAUSES.get(diagnosis.cause, "")),
        Fact("Profile", result.profile),
        Fact("Board", result.board_id or ""),
        Fact("Device", result.dsn or ""),
        Fact("Session", result.session_id or ""),
        Fact("Running", ", ".join(f"{each.name} ({each.mode})" for each in result.compositions[:20])),
        Fact("Commit", commit),
        Fact("Branch", change.branch or ""),
        Fact("Pull request", f"#{change.pull_request}" if change.pull_request else ""),
        Fact("CI job", f"{job or 'job'} ({change.ci})" if job and change.ci else job or page or "", page),
        Fact("Started", _start(result.started_at)),
        Fact("Duration", seconds(result.duration)),
        Fact("Exit code", str(result.exit_code)),
        Fact("Kept until", result.kept_until or ""),
    )
    return [fact._replace(value=shorten(fact.value, LONGEST)) for fact in known if fact.value]


def _start(iso: str) -> str:
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    zone = moment.strftime("%Z")
    return f"{moment:%Y-%m-%d %H:%M:%S} {zone or 'without zone'}"
