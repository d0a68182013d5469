"""Who has a file open: the answer to "port busy", and to "somebody else writes"."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def holders(path: str) -> list[str]:
    """Return who holds the file `path`, as "pid N (command)": who has locked it, else who has it open.

    Processes of other users are seen by root alone.
    """
    with suppress(OSError):
        found = os.stat(path)  # noqa: PTH116 - follows the links of /dev/serial/by-id
        pids = _lockers(found.st_dev, found.st_ino) or openers(os.path.realpath(path))
        return [describe(pid) for pid in pids]
    return []


def describe(pid: int) -> str:
    """Return a process as "pid N (command)", the command shortened."""
    if pid == os.getpid():
        return f"this process (pid {pid})"
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return f"pid {pid} ({words[:80]})"
    return f"pid {pid}"


def _lockers(device: int, inode: int) -> list[int]:
    """Return who has an flock, as /proc/locks tells; its numbers are 0 or less for processes of other containers."""
    wanted = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    found = set()
    with suppress(OSError):
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            words = line.split()
            if "FLOCK" in words and "->" not in words and wanted in words:  # -> marks one who waits for it
                found.add(int(words[words.index(wanted) - 1]))
    return sorted(pid for pid in found if pid > 0)


def openers(path: str) -> list[int]:
    """Return the processes that have the file `path` open; the path must have no links in it."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError):
            # The text of a link alone: what it leads to may block.
            if any(os.readlink(f"{folder}/{name}") == path for name in os.listdir(folder)):  # noqa: PTH115, PTH208
                found.add(int(folder.parent.name))
    return sorted(found)
