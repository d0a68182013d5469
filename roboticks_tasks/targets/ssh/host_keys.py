"""Host keys of boards: what a board offers now, and what is pinned for it."""

from __future__ import annotations

import os
import select
import shutil
from pathlib import Path

from roboticks_tasks.profiles.values import Profile
from roboticks_tasks.targets.ssh import invocation, known_hosts, reasons
from roboticks_tasks.targets.ssh.known_hosts import HostKey, pin, pinned

__all__ = ["HostKey", "offered", "pin", "pinned"]


def offered(profile: Profile) -> list[HostKey]:
    """Return the host key that the board offers right now, pinned or not; BoardError when it cannot be reached.

    ssh itself asks, so that jump hosts and the user's config count; nobody logs in.
    """
    folder = invocation.make_folder("ssh-keys")
    try:
        file, log = folder / "known_hosts", folder / "log"
        argv = [invocation.program(), "-S", "none", "-o", "PreferredAuthentications=none"]
        argv += invocation.options(profile, known_hosts=file, checking="accept-new")
        late = not _run([*argv, "--", invocation.host_of(profile), "exit"], log, profile.target.connect_timeout)
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        keys = known_hosts.keys_in(text, invocation.alias_of(profile))
        if not keys:
            raise reasons.explain(profile, log.read_text(encoding="utf-8", errors="replace"), late=late)
        return keys
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(argv: list[str], log: Path, seconds: float) -> bool:
    """Run a program to its end; tell whether it came in time."""
    process = invocation.spawn(argv, log=log)
    handle = os.pidfd_open(process.pid)  # a child that nobody has waited for is there
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)
        invocation.end(process, grace=0.2)
