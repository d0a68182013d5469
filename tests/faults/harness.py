"""A real run on a bench of its own, the processes that it consists of, and one fault at one moment."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.benches import Site
from tests.faults.moments import Moment, await_moment, finished_steps

ROOT = Path(__file__).resolve().parents[2]

PATIENCE = 0.5
"""Seconds for the victim of a fault to show up, when it is to be started just then."""

LONGEST = 60.0
"""Seconds after which a run counts as stuck."""


class Run:
    """A run of `roboticks-tasks hil-test` that has been started, by nox if wanted; its folder is `site.run`."""

    def __init__(self, site: Site, *, by_nox: bool = False) -> None:
        self.site = site
        self.errors = site.bench.folder / "run.err"
        self.ended_at = 0.0
        words = ["hil-test", "--profile", site.kind, "--artifacts", str(site.bench.folder / "run")]
        if by_nox:
            for name in ("noxfile.py", "pyproject.toml"):
                shutil.copy(ROOT / name, site.bench.folder)
            argv = [sys.executable, "-m", "nox", "--no-venv", "-s", "hil-test", "--", *words[1:]]
        else:
            argv = [sys.executable, "-m", "roboticks_tasks", *words]
        # Entering a mount namespace leaves the working directory.
        enter = [*site.disk.enter, "env", "-C", str(site.bench.folder)] if site.disk else []
        with (site.bench.folder / "run.out").open("wb") as output, self.errors.open("wb") as errors:
            self.started = subprocess.Popen(
                [*enter, *argv],
                cwd=site.bench.folder,
                env=site.bench.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def events(self) -> Path:
        """What the run tells."""
        return self.site.run / "events.jsonl"

    @property
    def goes_on(self) -> bool:
        """Tell whether the process that was started still runs."""
        return self.started.poll() is None

    def state(self) -> dict[str, Any]:
        """Return run.json, {} as long as there is none."""
        return read_json(self.site.run / "run.json")

    def end(self) -> int:
        """Wait for the end of the process that was started and return its exit code."""
        handle = os.pidfd_open(self.started.pid) if self.goes_on else None
        if handle is not None:  # Popen.wait with a time limit looks only every 50 ms
            select.select([handle], [], [], LONGEST)
            os.close(handle)
        self.ended_at = time.monotonic()
        return self.started.wait(0.1)

    # --- the processes

    def pids(self, part: str) -> list[int]:
        """Return the living processes of a part of the run: a key of `PARTS`."""
        wanted = PARTS[part](self)
        return [pid for pid in wanted if pid in self.site.bench.running()]

    def _run(self) -> list[int]:
        if self.started.args[1:3] == ["-m", "roboticks_tasks"]:  # type: ignore[index]  # it is a list
            return [self.started.pid]
        return self._by_words("-m roboticks_tasks hil-test")

    def _noted(self, key: str) -> list[int]:
        noted = self.state().get(key)
        return [noted["pid"]] if noted else []

    def _by_words(self, words: str) -> list[int]:
        return [pid for pid, found in self.site.bench.running().items() if words in found]

    def _from_file(self, path: Path) -> list[int]:
        with suppress(OSError, ValueError, IndexError):
            return [int(path.read_text().split()[0])]
        return []


PARTS: dict[str, Callable[[Run], list[int]]] = {
    "run": Run._run,
    "nox": lambda run: [run.started.pid],
    "guard": lambda run: run._noted("guard") or run._by_words("roboticks_tasks.guard"),
    "tests": lambda run: run._from_file(run.site.run / "tests.pid"),
    "device manager": lambda run: run._from_file(run.site.root / "run" / "device-manager.pid"),
    "platform": lambda run: run._by_words("roboticks_tasks.sim.platform"),
    "link": lambda run: run._by_words(" -M -N -S "),
    "connection": lambda run: [pid for pid in run._by_words(" -M ") if pid not in run._by_words(" -M -N -S ")],
    "capture": lambda run: run._by_words("serial_console"),
}
"""What a run consists of."""


class Fault(NamedTuple):
    """What is done to a run: it returns whether there was anything to do it to.

    `ends` tells that it ends the run, in order or not, whatever else happens; `may_remain` that only a teardown by
    hand mends it, or the reaper where `is_reaped`, which is tried after `patience` seconds. `code` is the run's exit
    code. `costs` names what cannot be kept: "log" (its last words), "copy" (of the log, in the run's folder), "tests",
    "session".
    """

    inflict: Callable[[Run], bool]
    kinds: tuple[str, ...] = ("sim", "ssh", "serial")
    steps: tuple[str, ...] = ()
    ends: bool = False
    by_nox: bool = False
    may_remain: bool = False
    is_reaped: bool = False
    patience: float = 10.0
    costs: frozenset[str] = frozenset()
    small_disk: bool = False
    code: int | None = None


class Inflicted(NamedTuple):
    """A fault that has been done: when (monotonic seconds), and what the run had done before."""

    at: float
    steps: list[str]
    counted: int
    ended: list[str]
    result: dict[str, Any]


def inflict(run: Run, fault: Fault, moment: Moment) -> Inflicted | None:
    """Do `fault` at `moment`; None when the moment or the victim did not come."""
    if not await_moment(moment, run.events, alive=lambda: run.goes_on):
        return None
    deadline = time.monotonic() + PATIENCE
    while run.goes_on:
        before = look(run)
        if fault.inflict(run):
            # Later than the rest: what the run has had the time to write counts as written.
            return before._replace(at=time.monotonic(), result=read_json(run.site.run / "result.json"))
        if time.monotonic() > deadline:
            break
        time.sleep(0.002)
    return None


def look(run: Run) -> Inflicted:
    """Return what the run has done until now."""
    site = run.site
    ended = site.ended.read_text().split() if site.ended.exists() else []
    counted = max((number for number, _ in counts(site)), default=0)
    steps: list[str] = []
    with suppress(ValueError):  # a line may be half written
        steps = finished_steps(run.events)
    return Inflicted(time.monotonic(), steps, counted, ended, {})


def counts(site: Site) -> Iterator[tuple[int, float]]:
    """Yield what the module has counted: each number, and when it had said it (monotonic seconds)."""
    if site.counted.exists():
        for line in site.counted.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                number, nanoseconds = line.split()
                yield int(number), int(nanoseconds) / 1e9


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file, {} when there is no file, or none that is whole."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found


def send(number: signal.Signals, *parts: str) -> Callable[[Run], bool]:
    """Return a fault: a signal to all processes of the parts, at once; there must be one of each."""

    def inflict_it(run: Run) -> bool:
        victims = [run.pids(part) for part in parts]
        if not all(victims):
            return False
        for pid in (pid for each in victims for pid in each):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return True

    return inflict_it


@contextmanager
def started(site: Site, *, by_nox: bool = False) -> Iterator[Run]:
    """Start a run for the block; its process is gone afterwards."""
    run = Run(site, by_nox=by_nox)
    try:
        yield run
    finally:
        run.started.kill()
        run.started.wait()
