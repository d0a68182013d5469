"""The guard of a run: a program that tears it down when its process is gone, however that went.

It is started with the run, reads its orders from standard input and blocks there: only the run's process has the other
end of that pipe, so its end of file means that the run is gone. It has inherited the board's lease, which it gives
back, by ending, once the board is safe.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roboticks_tasks.lifecycle.support.guarding import Orders

PATIENCE = 60
"""Seconds beyond its own time after which a teardown counts as stuck: then the kernel ends the guard, and the board can
be had again."""


def main() -> None:
    """Wait for the end of the run; tear down if it has not sent us home."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A handler, because what is ignored would stay ignored in all that we start.
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # none is lost that comes before we wait for it
    orders, last = sys.stdin.buffer.readline(), b""
    for line in sys.stdin.buffer:
        last = line
    # Nothing that the run has started is there before it has sent its orders.
    if orders.endswith(b"\n") and last != b"done\n":
        _act(orders, last)
    os._exit(0)


def _act(orders: bytes, last: bytes) -> None:
    import msgspec

    from roboticks_tasks.lifecycle.support.guarding import KEEP, Orders

    decoded = msgspec.json.decode(orders, type=Orders)
    word, _, seconds = last.partition(b" ")
    kept = word == KEEP
    if kept:
        signal.sigtimedwait({signal.SIGTERM}, float(seconds))  # whoever has seen enough sends it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    signal.alarm(PATIENCE + int(decoded.profile.timeouts.teardown))
    _tear_down(decoded, kept=kept)


def _tear_down(orders: Orders, *, kept: bool) -> None:
    from pathlib import Path

    from roboticks_tasks.backend.secrets import redactor_of
    from roboticks_tasks.console import log, shown, tell_steps
    from roboticks_tasks.events import fan_out, write_jsonl
    from roboticks_tasks.lifecycle.salvage import folder_of, salvage

    artifacts = folder_of(Path(orders.artifacts), orders.run_id)
    with shown(artifacts / "test-run.log", redactor=redactor_of(orders.profile)):
        log.info("the run is kept no longer" if kept else "the run's process is gone: its guard tears it down")
        sink = fan_out([write_jsonl(artifacts / "events.jsonl"), tell_steps])
        salvage(orders.profile, artifacts, run_id=orders.run_id, sink=sink)


if __name__ == "__main__":
    main()
