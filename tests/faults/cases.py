"""One case: a bench, a run, a fault at a moment, and what has become of all of it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.faults import world
from tests.faults.benches import Site, open_site
from tests.faults.harness import inflict, started
from tests.faults.injections import FAULTS
from tests.faults.moments import Moment


class Case(NamedTuple):
    """What is done to a run on a kind of bench, and when."""

    kind: str
    fault: str
    moment: Moment

    def __str__(self) -> str:
        return f"{self.kind}: {self.fault}, {self.moment}"


class Outcome(NamedTuple):
    """What has become of a case; `safe_after` in seconds, from the fault, or from the end of a run that went on.

    `missed` tells that the fault found nothing to do harm to. `mended` is what was left until a teardown by hand.
    """

    case: Case
    missed: bool
    code: int
    safe_after: float
    mended: list[str]
    left: list[str]
    lost: list[str]
    wrong: list[str]
    seconds: float

    @property
    def problems(self) -> list[str]:
        """Return what must not be."""
        mended = [] if FAULTS[self.case.fault].may_remain else [f"left until teardown: {each}" for each in self.mended]
        return [
            *(f"left behind: {each}" for each in self.left),
            *mended,
            *(f"lost: {each}" for each in self.lost),
            *(f"wrong: {each}" for each in self.wrong),
        ]


def play(case: Case, folder: Path) -> Outcome:
    """Play a case in `folder`, which should have a short path."""
    begin = time.monotonic()
    fault = FAULTS[case.fault]
    with open_site(case.kind, folder, small_disk=fault.small_disk) as site, started(site, by_nox=fault.by_nox) as run:
        before = inflict(run, fault, case.moment)
        since = before.at if before and fault.ends else None
        code = run.end()
        patience = fault.patience if before else 10.0
        left = world.await_safe(site, patience if since is None else max(0.1, since + patience - time.monotonic()))
        safe_after = time.monotonic() - (since if since is not None else run.ended_at)
        mended = left
        if left or fault.may_remain:  # where nobody is left to judge the run, whoever tears it down does
            _mend(site, reap=fault.is_reaped)
            left = world.await_safe(site, 3.0)
        errors = run.errors.read_text(errors="replace")
        return Outcome(
            case=case,
            missed=before is None,
            code=code,
            safe_after=safe_after,
            mended=mended,
            left=[*left, *([] if "session" in fault.costs else world.active_sessions(site))],
            lost=list(world.lost(site, fault, before)) if before else [],
            wrong=list(world.wrong(site, fault, before, code=code, errors=errors, mended=bool(mended))),
            seconds=time.monotonic() - begin,
        )


def _mend(site: Site, *, reap: bool) -> None:
    """Tear down by hand or by the reaper, once the network and the disk are as they should be."""
    if site.proxy is not None:
        site.proxy.blackhole(False)
    (site.run / "filler").unlink(missing_ok=True)
    by_hand = ["teardown", "--profile", site.kind, "--artifacts", str(site.run)]
    with (site.bench.folder / "teardown.out").open("wb") as output:
        subprocess.run(
            [sys.executable, "-m", "roboticks_tasks", *(["status", "--reap"] if reap else by_hand)],
            cwd=site.bench.folder,
            env=site.bench.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )


@contextmanager
def short_folder() -> Iterator[Path]:
    """Lend a folder whose path is short enough for sockets below it."""
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "b"
