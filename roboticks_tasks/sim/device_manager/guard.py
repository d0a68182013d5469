"""Kill the modules when their device manager is gone, however it went.

A program of its own, run by path: it reads process groups from its stdin, which is a pipe that only the device manager
(and, until it becomes the module, each module's launcher) holds open. At the end of the stream it kills them all.
PR_SET_PDEATHSIG would spare the children of modules, and leave a moment at each start in which it is not yet set. What
a module has put into a session of its own is out of reach here (see `orphans.py`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    """Read `GROUP` and `-GROUP` lines until the end of the stream, then kill the groups that were not taken back."""
    groups: set[int] = set()
    for line in sys.stdin:
        number = int(line)
        if number > 0:
            groups.add(number)
        else:
            groups.discard(-number)
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    main()
