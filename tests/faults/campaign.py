"""Many cases by chance: what is done when is drawn from a seed, and the same seed draws the same cases."""

from __future__ import annotations

import random
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.faults.cases import Case, Outcome, play
from tests.faults.injections import FAULTS
from tests.faults.moments import PUBLISHING, TYPICAL, Moment

WEIGHTS = {"sim": 12, "ssh": 4, "serial": 1}
"""How often each kind of bench is drawn: the slower it is, the less."""

HEAD = (
    "fault",
    "benches",
    "moments",
    "runs",
    "missed",
    "mended afterwards",
    "left behind",
    "lost",
    "wrong",
    "safe after",
)


def draw(seed: int, runs: int, *, kinds: Sequence[str] = tuple(WEIGHTS)) -> list[Case]:
    """Return the cases of a campaign: every fault comes about equally often, its moment is any."""
    chance = random.Random(seed)
    names = [name for name, fault in FAULTS.items() if set(fault.kinds) & set(kinds)]
    cases: list[Case] = []
    while len(cases) < runs:
        chance.shuffle(names)
        cases += [_draw_one(chance, name, kinds) for name in names]
    return cases[:runs]


def _draw_one(chance: random.Random, name: str, kinds: Sequence[str]) -> Case:
    fault = FAULTS[name]
    possible = [kind for kind in fault.kinds if kind in kinds]
    kind = chance.choices(possible, [WEIGHTS[each] for each in possible])[0]
    step = chance.choice(fault.steps)
    # Half of them fall on the seams between two steps, where a value is returned and not yet noted. Whoever can only
    # be hit in one step is gone at its end.
    edge = "start" if step in {"spawn", PUBLISHING} or len(fault.steps) == 1 else chance.choice(("start", "end"))
    typical = TYPICAL[step] if edge == "start" else 0.02
    delay = 0.0 if chance.random() < 0.2 else round(chance.uniform(0.0, typical), 3)
    return Case(kind, name, Moment(step, edge, delay))


def play_all(
    cases: Iterable[tuple[int, Case]], *, jobs: int, tell: Callable[[int, Outcome, Path], None]
) -> list[Outcome]:
    """Play numbered cases, `jobs` at a time; the folder of one that shows a problem is kept, and told."""
    outcomes = []
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(_play_one, case): number for number, case in cases}
        try:
            for each in as_completed(waiting):
                outcome, folder = each.result()
                tell(waiting[each], outcome, folder)
                outcomes.append(outcome)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return outcomes


def _play_one(case: Case) -> tuple[Outcome, Path]:
    holder = Path(tempfile.mkdtemp(prefix="chaos-"))  # a short name: there are sockets below it
    outcome = play(case, holder / "b")
    if not outcome.problems:
        shutil.rmtree(holder, ignore_errors=True)
    return outcome, holder / "b"


def table(outcomes: Sequence[Outcome]) -> str:
    """Return what has happened as a Markdown table, a line for each fault and one for all."""
    lines = [HEAD, tuple("---" for _ in HEAD)]
    lines += [_row(name, mine) for name in FAULTS if (mine := [each for each in outcomes if each.case.fault == name])]
    lines.append(_row("all", outcomes))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _row(name: str, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    hit = [each for each in outcomes if not each.missed]
    counts = (
        sum(each.missed for each in outcomes),
        sum(bool(each.mended) for each in hit),
        sum(bool(each.left) for each in outcomes),
        sum(bool(each.lost) for each in outcomes),
        sum(bool(each.wrong) for each in outcomes),
    )
    moments = len({(each.case.moment.step, each.case.moment.edge) for each in outcomes})
    benches = ", ".join(sorted({each.case.kind for each in outcomes}))
    return (name, benches, str(moments), str(len(outcomes)), *map(str, counts), _longest(hit))


def _longest(outcomes: Iterable[Outcome]) -> str:
    times = [each.safe_after for each in outcomes if not each.mended]
    return f"{statistics.median(times):.2f} s, at most {max(times):.2f} s" if times else "-"


def numbered(cases: Sequence[Case], only: Sequence[int]) -> Iterator[tuple[int, Case]]:
    """Yield the cases with their numbers, all or those of `only`."""
    return ((number, case) for number, case in enumerate(cases) if not only or number in only)
