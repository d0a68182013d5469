"""The faults: what can be done to a run, and what it may cost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from signal import SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGSTOP, SIGTERM

from roboticks_tasks.reporting.lifecycle_suite import STEPS
from tests.faults.harness import Fault, Run, send
from tests.faults.moments import PUBLISHING
from tests.faults.slow_proxy import SlowProxy

ANY = ("spawn", *STEPS, PUBLISHING)
BUSY = STEPS[1:]
LATE = (*BUSY, PUBLISHING)
WITH_LINK = STEPS[STEPS.index("launch_dm") :]
WITH_PLATFORM = (*WITH_LINK, PUBLISHING)
WITH_DEVICE = STEPS[STEPS.index("await_dsn") :]

FREEZE = 2.0
"""Seconds for which a process stands still."""


def freeze(part: str, seconds: float = FREEZE) -> Callable[[Run], bool]:
    """Return a fault: the processes of a part stand still for a while."""

    def inflict_it(run: Run) -> bool:
        victims = run.pids(part)
        for number, pause in ((SIGSTOP, seconds), (SIGCONT, 0.0)):
            for pid in victims:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            time.sleep(pause if victims else 0.0)
        return bool(victims)

    return inflict_it


def on_line(action: Callable[[SlowProxy], None]) -> Callable[[Run], bool]:
    """Return a fault: something happens to the network between us and the board."""

    def inflict_it(run: Run) -> bool:
        assert run.site.proxy is not None
        if not run.site.proxy.connections:
            return False
        action(run.site.proxy)
        return True

    return inflict_it


def fill(run: Run) -> bool:
    """Fill the disk on which the run's folder is; False where this machine allows no small disk."""
    if run.site.disk is None:
        return False
    with suppress(OSError), (run.site.run / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    return True


def _slow(proxy: SlowProxy) -> None:
    proxy.delay = 0.02


LOST_DEVICE = frozenset({"log", "session"})
LOST_FILES = frozenset({"copy", "tests"})
LOST_TESTS = frozenset({"tests"})
LOST_SESSION = frozenset({"session"})

FAULTS: dict[str, Fault] = {
    "SIGKILL of the run": Fault(send(SIGKILL, "run"), steps=ANY, ends=True),
    "SIGKILL of nox": Fault(send(SIGKILL, "nox"), kinds=("sim",), steps=LATE, ends=True, by_nox=True),
    "SIGTERM of nox": Fault(send(SIGTERM, "nox"), kinds=("sim",), steps=LATE, ends=True, by_nox=True),
    "SIGKILL of the guard": Fault(send(SIGKILL, "guard"), steps=LATE),
    "SIGKILL of run and guard": Fault(
        send(SIGKILL, "run", "guard"), steps=LATE, ends=True, may_remain=True, patience=0.3
    ),
    "SIGKILL of run and guard, reaped": Fault(
        send(SIGKILL, "run", "guard"), steps=LATE, ends=True, may_remain=True, is_reaped=True, patience=0.3
    ),
    "SIGKILL of the tests": Fault(send(SIGKILL, "tests"), steps=("pytest_session",), costs=LOST_TESTS),
    "SIGKILL of the device manager": Fault(send(SIGKILL, "device manager"), steps=WITH_DEVICE, costs=LOST_DEVICE),
    "SIGKILL of the platform": Fault(send(SIGKILL, "platform"), steps=WITH_PLATFORM, costs=LOST_SESSION),
    "SIGKILL of run and platform": Fault(
        send(SIGKILL, "run", "platform"), steps=WITH_PLATFORM, ends=True, costs=LOST_SESSION
    ),
    "SIGKILL of run and device manager": Fault(
        send(SIGKILL, "run", "device manager"), steps=WITH_DEVICE, ends=True, costs=LOST_DEVICE
    ),
    "SIGKILL of the ssh link": Fault(send(SIGKILL, "link"), kinds=("ssh",), steps=WITH_LINK, costs=LOST_SESSION),
    "SIGKILL of the ssh connection": Fault(send(SIGKILL, "connection"), kinds=("ssh",), steps=BUSY),
    "SIGKILL of the capture": Fault(send(SIGKILL, "capture"), kinds=("serial",), steps=BUSY),
    "SIGTERM of the run": Fault(send(SIGTERM, "run"), steps=ANY, ends=True, code=143),
    "SIGINT of the run": Fault(send(SIGINT, "run"), steps=ANY, ends=True, code=130),
    "SIGHUP of the run": Fault(send(SIGHUP, "run"), steps=LATE, ends=True, code=129),
    "platform stands still for 2 s": Fault(freeze("platform"), steps=WITH_PLATFORM),
    "device manager stands still for 2 s": Fault(freeze("device manager"), steps=WITH_DEVICE),
    "run stands still for 2 s": Fault(freeze("run"), steps=LATE),
    "network: reset": Fault(on_line(SlowProxy.cut), kinds=("ssh",), steps=BUSY, costs=LOST_SESSION),
    "network: swallows all": Fault(
        on_line(SlowProxy.blackhole), kinds=("ssh",), steps=BUSY, may_remain=True, patience=0.3, costs=LOST_SESSION
    ),
    "network: 20 ms slower": Fault(on_line(_slow), kinds=("ssh",), steps=BUSY),
    "disk full": Fault(fill, kinds=("sim",), steps=LATE, small_disk=True, costs=LOST_FILES),
}
"""Each fault by its name, in the order of the table."""
