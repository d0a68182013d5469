"""The history in one value: what `roboticks-tasks history --json` prints, and what the text and the page show."""

from __future__ import annotations

import msgspec

METHOD = (
    "What is compared ran the same code: the same commit with a clean tree, under the same profile. A test that failed "
    "there in some of its runs and passed in others has disagreed, and so has one that passed when it was run again; "
    "one that failed in four of five runs or more is broken, not flaky. Failures in a row, of one commit on one board, "
    "count once: they may be one outage. A board is flaky when more of the runs with a disagreement were on it than "
    "its share of the same commits' runs makes likely (Cochran-Mantel-Haenszel, Hoeffding's binomial bound); bench "
    "errors are compared likewise. A test is flaky when, on the boards that are not, it disagrees more often than the "
    "other tests, and than 1 in 200 (binomial). Named is what has p below 0.001 after Holm's correction, and twice the "
    "others' rate; the intervals are Wilson's, 95 %. Trends compare the later half of the runs with the earlier one "
    "(medians, Mann-Whitney)."
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
    """A test that failed in `failed`, nearly all, of `runs` on one board for `commits` commits, hardly elsewhere."""

    test: str
    board: str
    failed: int
    runs: int
    commits: int
    others_failed: int
    others_runs: int


class BrokenLine(_Value, frozen=True, kw_only=True):
    """A test that failed in `failed`, nearly all, of the runs of its latest commit."""

    test: str
    commit: str
    failed: int
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
