"""The signs of life that a run gives the board's watchdog, so that it stops nothing as long as the run is there.

Two give them. Whoever uses the target gives one before a command that takes longer than the last one is good for, and
when one is due. In the time between, while the tests run or something is computed here, a thread does. Both never use
the target at once: a serial console takes one client.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from roboticks_tasks.errors import RoboticksError, TargetError
from roboticks_tasks.lifecycle.support.places import is_hosted
from roboticks_tasks.lifecycle.support.watchdog import beat, keep_for, start_watchdog, stop_watchdog
from roboticks_tasks.models import DeviceManager
from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets import Completed, Target, open_target
from roboticks_tasks.targets.opening import hurried

log = logging.getLogger(__name__)

LONGEST_INTERVAL = 5.0
"""Seconds between two signs of life at most; four of them have room in what one is good for."""

MARGIN = 15.0
"""Seconds that a command may take longer than its time: what it has started is ended, a link is made anew."""

JOIN = 0.5
"""Seconds that the end of a sign of life is waited for when the run goes on."""


class Beating:
    """A target on which no command takes longer than the board's watchdog waits for a sign of life.

    `seconds` is how long one is good for, `away` how long the board may not be reachable besides.
    """

    def __init__(
        self,
        target: Target,
        root: str,
        *,
        seconds: float,
        away: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = target
        self._root = root
        self._good = seconds + away
        self._margin = MARGIN + away
        self._interval = min(LONGEST_INTERVAL, seconds / 4)
        self._patience = min(LONGEST_INTERVAL, max(1.0, seconds))
        self._clock = clock
        self._due = self._until = clock()
        self._failing = False
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._over.set()
        self._thread: threading.Thread | None = None

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command to its end; TargetError as from the target itself."""
        with self._lock:
            if not self._over.is_set():
                self._cover(timeout)
            return self._target.run(argv, stdin=stdin, timeout=timeout, repeatable=repeatable)

    def begin(self) -> None:
        """Give the first sign of life, and go on in a thread; TargetError when the watchdog does not take it."""
        now = self._clock()
        if not beat(self._target, self._root, seconds=self._good):
            raise TargetError("it has ended at once")
        self._due, self._until = now + self._interval, now + self._good - 1
        self._over.clear()
        self._thread = threading.Thread(target=self._work, name="heartbeat", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Give no more signs of life; one that does not come to its end is left to itself."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(JOIN)

    @property
    def is_free(self) -> bool:
        """Tell whether nobody uses the target any more, after the end."""
        return self._thread is None or not self._thread.is_alive()

    def _cover(self, timeout: float) -> None:
        """See to it that the watchdog waits for a command of `timeout` seconds that begins now."""
        needed = timeout + self._margin
        covered = self._clock() + needed <= self._until or self._failing
        if not covered or self._clock() >= self._due:
            self._beat(max(self._good, needed + self._interval))

    def _beat(self, seconds: float) -> None:
        begin = self._clock()
        self._due = begin + self._interval
        try:
            beat(self._target, self._root, seconds=seconds, timeout=self._patience)
        except RoboticksError as error:  # what is wrong with the target, the next command says
            if not self._failing and not self._over.is_set():
                left = max(0.0, self._until - self._clock())
                log.warning(
                    "the board's watchdog gets no sign of life, it stops the device manager in %.0f s: %s", left, error
                )
            self._failing = True
            return
        if self._failing:
            log.info("the board's watchdog gets signs of life again")
        self._failing = False
        self._until = begin + seconds - 1  # it counts whole seconds, and may be at the end of one

    def _work(self) -> None:
        while not self._over.wait(self._interval):
            if not self._lock.acquire(blocking=False):
                continue  # whoever has the target sees to it
            try:
                if not self._over.is_set():
                    self._beat(self._good)
            except Exception:
                # The end of this thread would be the end of a healthy run.
                if not self._over.is_set():
                    log.exception("a sign of life could not be given")
            finally:
                self._lock.release()


@contextmanager
def beating(profile: Profile, dm: DeviceManager, target: Target) -> Iterator[Beating]:
    """Have a watchdog stop `dm` when this process, its machine or the link to the board dies during the block.

    All commands for the board go through the target that this lends. Without a watchdog (`device_manager.watchdog` is
    0, the firmware has no shell, or it cannot be started, which is only a warning) it is the plain target. The
    watchdog stays when the block ends, as long as the device manager runs or `stop_watchdog` is called.
    """
    seconds = profile.device_manager.watchdog if is_hosted(profile) else 0.0
    beats = Beating(target, dm.root, seconds=seconds, away=profile.target.reboot_timeout or 0.0)
    try:
        if seconds:
            _begin(beats, dm, target, seconds=seconds)
        yield beats
    finally:
        beats.end()


def _begin(beats: Beating, dm: DeviceManager, target: Target, *, seconds: float) -> None:
    try:
        start_watchdog(target, dm, seconds=seconds + MARGIN)
        beats.begin()
    except TargetError as error:
        log.warning("the board has no watchdog: %s", error)
        with suppress(TargetError):  # one that nobody can tell anything would stop a healthy run
            stop_watchdog(target, dm.root)


def leave_watched(profile: Profile, dm: DeviceManager, target: Target | None, *, seconds: float) -> None:
    """Have the board stop `dm` in `seconds` by itself, and a margin later than whoever else does; never raises."""
    if not is_hosted(profile) or not profile.device_manager.watchdog:
        return
    limit = profile.timeouts.teardown
    try:
        with open_target(hurried(profile, limit), target, limit=lambda: limit) as shell:
            keep_for(shell, dm, seconds + limit + MARGIN)
    except RoboticksError as error:
        log.warning("the board's watchdog could not be told to wait, it stops the device manager soon: %s", error)
