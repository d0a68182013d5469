"""A device manager that dies under a test."""

from __future__ import annotations

import os
import signal
from typing import Any


def test_greetings_go_on(roboticks_run: Any, bus: Any) -> None:
    os.kill(roboticks_run.dm.pid, signal.SIGKILL)

    bus.collect("/hello/greeting", 10_000, timeout=1.0)
