"""Compare one board with the others, for the same changes."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import NamedTuple

from roboticks_tasks.history.chances import at_least, holm

UNLIKELY = 0.001
"""Probability, corrected, below which something is named."""

TIMES = 2.0
"""How many times the others' rate is not only significant but worth to be acted on."""


class Rate(NamedTuple):
    """How often something happened on one thing and on the others it is compared with, and how likely that is."""

    number: int
    hits: int
    trials: int
    other_hits: int
    other_trials: int
    chance: float
    worse: bool

    @property
    def is_named(self) -> bool:
        """Tell whether it is neither chance nor too little to matter."""
        return self.chance < UNLIKELY and self.worse


@dataclass
class _Sums:
    """One board against the others, over the changes that ran on both; `drawn` and on: where there was a difference."""

    hits: int = 0
    trials: int = 0
    other_hits: int = 0
    other_trials: int = 0
    observed: int = 0
    drawn: int = 0
    expected: float = 0.0
    weight: float = 0.0
    other_weight: float = 0.0

    def add(self, own: tuple[int, int], everyone: tuple[int, int]) -> None:
        """Add one change: hits and runs of the board, and of all boards."""
        (hits, runs), (all_hits, all_runs) = own, everyone
        others, other_hits = all_runs - runs, all_hits - hits
        self.hits, self.trials = self.hits + hits, self.trials + runs
        self.other_hits, self.other_trials = self.other_hits + other_hits, self.other_trials + others
        if 0 < all_hits < all_runs:
            self.observed += hits
            self.drawn += all_hits
            self.expected += all_hits * runs / all_runs
            self.weight += hits * others / all_runs  # these two make Mantel and Haenszel's common ratio of risks
            self.other_weight += other_hits * runs / all_runs

    @property
    def chance(self) -> float:
        """Return the probability of so many hits, were the boards alike."""
        if self.observed < self.expected + 1:
            return 1.0
        return at_least(self.observed, self.drawn, self.expected / self.drawn)


def compare(trials: Counter[tuple[int, int]], hits: Counter[tuple[int, int]]) -> list[Rate]:
    """Compare the hits of each board with those of all others, for the same changes; both are by change and board."""
    strata: dict[int, list[int]] = defaultdict(list)
    for change, board in trials:
        if change and board:
            strata[change].append(board)
    sums: dict[int, _Sums] = defaultdict(_Sums)
    for change, boards in strata.items():
        everyone = sum(hits[change, board] for board in boards), sum(trials[change, board] for board in boards)
        for board in boards if len(boards) > 1 else ():
            sums[board].add((hits[change, board], trials[change, board]), everyone)
    numbers = list(sums)
    chances = holm([sums[number].chance for number in numbers])
    rates = [
        Rate(number, each.hits, each.trials, each.other_hits, each.other_trials, chance, worse)
        for number, chance in zip(numbers, chances, strict=True)
        for each in (sums[number],)
        for worse in (each.weight > 0 and each.weight >= TIMES * each.other_weight,)
    ]
    return sorted(rates, key=order)


def order(rate: Rate) -> tuple[float, float, int]:
    return rate.chance, -rate.hits / max(1, rate.trials), rate.number
