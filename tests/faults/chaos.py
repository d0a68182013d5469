"""`python -m tests.faults.chaos --seed 1 --runs 200`: do harm to many runs, and print what became of them."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.faults.benches import KINDS
from tests.faults.campaign import draw, numbered, play_all, table
from tests.faults.cases import Outcome
from tests.parts import find
from tests.terminal import heed_signals


def main(words: list[str] | None = None) -> int:
    """Run a campaign; return 1 when a case has shown a problem."""
    options = _parser().parse_args(words)
    heed_signals()
    kinds = options.kinds or [kind for kind in KINDS if kind != "ssh" or find("sshd")]
    cases = draw(options.seed, options.runs, kinds=kinds)
    begin = time.monotonic()

    def tell(number: int, outcome: Outcome, folder: Path) -> None:
        what = "missed" if outcome.missed else f"safe after {outcome.safe_after:.2f} s"
        line = f"{number:4} {outcome.case}: {what}, exit code {outcome.code}, {outcome.seconds:.1f} s"
        if outcome.problems:
            again = ["--seed", options.seed, "--runs", options.runs, "--only", number]
            again += [word for kind in options.kinds or () for word in ("--kind", kind)]
            print("", line, *(f"     {each}" for each in outcome.problems), sep="\n")
            print(f"     kept in {folder}; again: python -m tests.faults.chaos", *again, flush=True)
        elif options.verbose:
            print(line, flush=True)

    outcomes = play_all(numbered(cases, options.only), jobs=options.jobs, tell=tell)
    seconds = time.monotonic() - begin
    text = table(outcomes)
    print(f"\n{text}\n{len(outcomes)} runs in {seconds:.0f} s, seed {options.seed}")
    if options.write is not None:
        options.write.write_text(text)
    return int(any(each.problems for each in outcomes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="what the cases are drawn from")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2, help="how many runs go on at a time")
    parser.add_argument("--kind", dest="kinds", action="append", choices=KINDS, help="of a bench; default: all")
    parser.add_argument("--only", type=int, action="append", default=[], metavar="K", help="only case number K")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table there, too")
    parser.add_argument("--verbose", action="store_true", help="tell of every run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
