"""What doctor found out: values, and the exit code that follows from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

from roboticks_tasks.errors import EXIT_PASSED, BackendError, BoardError, ConfigError
from roboticks_tasks.models import Value

Area = Literal["machine", "board", "platform"]
"""Whose fault it would be: this machine's or the profile's, the board's, the platform's."""

Outcome = Literal["ok", "warning", "failed", "skipped"]

EXIT_CODES: tuple[tuple[Area, int], ...] = (
    ("machine", ConfigError.exit_code),
    ("board", BoardError.exit_code),
    ("platform", BackendError.exit_code),
)
"""The code of each area in which something failed; the first in this order wins, because it is to be mended first."""


class Seen(NamedTuple):
    """What one check saw; whatever is not as it should be comes with what to do."""

    outcome: Outcome
    detail: str
    remedy: str = ""


class Finding(Value, frozen=True, kw_only=True):
    """One check of one board, or of what all boards share (`board` None); duration in seconds."""

    name: str
    area: Area
    outcome: Outcome
    detail: str
    remedy: str = ""
    board: str | None = None
    duration: float = 0.0


class Diagnosis(Value, frozen=True, kw_only=True):
    """Every finding of a profile's boards; duration in seconds."""

    profile: str
    boards: tuple[str, ...]
    findings: tuple[Finding, ...]
    duration: float

    @property
    def summary(self) -> dict[str, int]:
        """Return how many findings there are of each outcome."""
        counts = Counter(finding.outcome for finding in self.findings)
        return {outcome: counts[outcome] for outcome in ("ok", "warning", "failed", "skipped")}

    @property
    def exit_code(self) -> int:
        """Return 0 when nothing failed; else 2 for this machine, 22 for a board, 11 for the platform, in this order."""
        failed = {finding.area for finding in self.findings if finding.outcome == "failed"}
        return next((code for area, code in EXIT_CODES if area in failed), EXIT_PASSED)


def ok(detail: str) -> Seen:
    """Return that all is well."""
    return Seen("ok", detail)


def warning(detail: str, remedy: str) -> Seen:
    """Return that something is not as it should be, with which a run may yet pass."""
    return Seen("warning", detail, remedy)


def failed(detail: str, remedy: str) -> Seen:
    """Return that something is wrong, with which a run cannot pass."""
    return Seen("failed", detail, remedy)


def skipped(reason: str) -> Seen:
    """Return that nothing could be seen, and why."""
    return Seen("skipped", reason)


def is_sound(findings: Iterable[Finding], board: str) -> bool:
    """Tell whether everything of the board was looked at and nothing of it failed; a warning is no failure."""
    return all(each.outcome in {"ok", "warning"} for each in findings if each.board == board)
