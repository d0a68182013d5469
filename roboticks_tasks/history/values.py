"""The history in one value: what `roboticks-tasks history --json` prints, and what the text and the page show."""

from __future__ import annotations

import msgspec

METHOD = (
    "Same commit with a clean tree, same profile, other outcome: a test that failed there in some of its runs and "
    "passed in others has disagreed; one that always failed there is broken, not flaky; passing when run again is a "
    "disagreement, too. A board is flaky when more of the runs with a disagreement were on it than its share of "
    "the same commits' runs makes likely (Cochran-Mantel-Haenszel strata of commits, runs as units, Hoeffding's "
    "binomial bound); its bench errors are compared likewise. A test is flaky when it disagrees, on the boards that "
    "are not, more often than the other tests, and than 1 in 200 (binomial). Named is what has p below 0.001 after "
    "Holm's correction, and twice the others' rate; the intervals are Wilson's, 95 %. A test that always fails on "
    "one board alone is told apart. Trends compare the later half with the earlier one (medians, Mann-Whitney)."
)


class _Value(msgspec.Struct, frozen=True, kw_only=True):
    """Share one configuration."""


class RunLine(_Value, frozen=True, kw_only=True):
    """A run; `began` is ISO 8601, UTC, `duration` in seconds."""

    run_id: str
    profile: str
    board: str | None
    verdict: str
    reason: str
    began: str
    duration: float
    commit: str | None
    is_dirty: bool | None
    branch: str | None
    ci: str | None


class StepLine(_Value, frozen=True, kw_only=True):
    """How long a step takes when it succeeds, in seconds; `change` is that of the median against the earlier half.

    `change` is a share (0.1: ten percent longer), None with too few runs; `p` how likely chance alone makes it.
    """

    name: str
    runs: int
    median: float
    p95: float
    earlier_median: float | None = None
    later_median: float | None = None
    change: float | None = None
    p: float | None = None


class FlakyLine(_Value, frozen=True, kw_only=True):
    """A test or a board: how often it disagreed, of how many runs, the interval of that rate, and that of the others.

    `p` is the probability, corrected, that chance alone does this. `is_flaky` says that it is named.
    """

    name: str
    is_flaky: bool
    hits: int
    runs: int
    rate: float
    low: float
    high: float
    others_hits: int
    others_runs: int
    p: float
    mainly: str | None = None


class SpecificLine(_Value, frozen=True, kw_only=True):
    """A test that failed in all `failed` runs on one board, for `commits` commits, and hardly on the others."""

    test: str
    board: str
    failed: int
    commits: int
    others_failed: int
    others_runs: int


class BrokenLine(_Value, frozen=True, kw_only=True):
    """A test that failed in all runs of its latest commit."""

    test: str
    commit: str
    runs: int


class Report(_Value, frozen=True, kw_only=True):
    """All of it; `runs` is how many there are, `latest` some of them, the newest first."""

    version: int = 1
    history: str
    runs: int
    latest: tuple[RunLine, ...] = ()
    verdicts: dict[str, int] = {}
    steps: tuple[StepLine, ...] = ()
    tests: tuple[FlakyLine, ...] = ()
    boards: tuple[FlakyLine, ...] = ()
    bench_errors: tuple[FlakyLine, ...] = ()
    board_specific: tuple[SpecificLine, ...] = ()
    broken: tuple[BrokenLine, ...] = ()
    method: str = METHOD
