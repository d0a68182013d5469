"""The few formulas that tell a finding from chance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist

CONFIDENCE = 0.95
"""Of the intervals."""


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Return the interval in which the rate behind `hits` of `trials` lies (Wilson 1927); (0, 1) without trials."""
    if trials <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    rate, share = hits / trials, z * z / trials
    middle = (rate + share / 2) / (1 + share)
    half = z * math.sqrt(rate * (1 - rate) / trials + share / trials / 4) / (1 + share)
    return max(0.0, middle - half), min(1.0, middle + half)


def at_least(hits: int, trials: int, rate: float) -> float:
    """Return the probability of `hits` or more in `trials`, when each hits with probability `rate`: a binomial's tail.

    It is a bound, too, for trials with unlike rates of this mean, where `hits` is one more than expected or greater
    (Hoeffding 1956).
    """
    if hits <= 0:
        return 1.0
    if rate <= 0 or hits > trials:
        return 0.0
    if rate >= 1:
        return 1.0
    term = _binomial(hits, trials, rate)
    if hits <= trials * rate:  # the shorter tail, from its large end
        down, total = term, 0.0
        for count in range(hits, 0, -1):
            down *= count * (1 - rate) / ((trials - count + 1) * rate)
            total += down
            if down < total * 1e-12:
                break
        return max(0.0, 1 - total)
    total = term
    for count in range(hits, trials):
        term *= (trials - count) * rate / ((count + 1) * (1 - rate))
        total += term
        if term < total * 1e-12:
            break
    return min(1.0, total)


def _binomial(hits: int, trials: int, rate: float) -> float:
    ways = math.lgamma(trials + 1) - math.lgamma(hits + 1) - math.lgamma(trials - hits + 1)
    return math.exp(ways + hits * math.log(rate) + (trials - hits) * math.log1p(-rate))


def holm(chances: Sequence[float]) -> list[float]:
    """Return the probabilities corrected for the number of questions that were asked (Holm 1979), in their order."""
    corrected = [1.0] * len(chances)
    worst = 0.0
    for place, index in enumerate(sorted(range(len(chances)), key=lambda each: chances[each])):
        worst = max(worst, min(1.0, chances[index] * (len(chances) - place)))
        corrected[index] = worst
    return corrected


def differ(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the probability that two samples of one kind look as different as these (Mann-Whitney, with ties)."""
    m, n = len(first), len(second)
    ranks, before, ties = {}, 0, 0.0
    for value, count in sorted(Counter([*first, *second]).items()):
        ranks[value] = before + (count + 1) / 2
        before += count
        ties += count**3 - count
    total = m + n
    if not m or not n or ties == total**3 - total:
        return 1.0
    excess = sum(ranks[value] for value in first) - m * (total + 1) / 2
    spread = math.sqrt(m * n / 12 * (total + 1 - ties / (total * (total - 1))))
    return math.erfc(max(0.0, abs(excess) - 0.5) / spread / math.sqrt(2))


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the sorted `values` lie, interpolated."""
    place = share * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)
