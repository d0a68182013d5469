"""The metrics of a heartbeat: the documented names, in per cent, read from /proc."""

from __future__ import annotations

import os
from pathlib import Path

CpuTimes = tuple[int, int]
"""Busy and total clock ticks of all processors since the machine started."""


def cpu_times() -> CpuTimes:
    """Return the ticks so far; (0, 0) where /proc does not tell."""
    try:
        ticks = [int(field) for field in Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()[1:9]]
    except (OSError, ValueError):
        return 0, 0
    idle = sum(ticks[3:5])
    return sum(ticks) - idle, sum(ticks)


def cpu_usage(before: CpuTimes, after: CpuTimes) -> float:
    """Return the usage between two readings in per cent; 0.0 when no tick has passed."""
    busy, total = after[0] - before[0], after[1] - before[1]
    return round(100.0 * busy / total, 1) if total > 0 else 0.0


def memory_usage() -> float:
    """Return the memory in use in per cent; 0.0 where /proc does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return round(100.0 * (1 - kilobytes["MemAvailable"] / kilobytes["MemTotal"]), 1)
    except (OSError, ValueError, KeyError, IndexError, ZeroDivisionError):
        return 0.0


def disk_usage(folder: Path) -> float:
    """Return the use of the file system that holds `folder` in per cent; 0.0 when it cannot be asked."""
    try:
        system = os.statvfs(folder)
        return round(100.0 * (1 - system.f_bavail / system.f_blocks), 1)
    except (OSError, ZeroDivisionError):
        return 0.0
