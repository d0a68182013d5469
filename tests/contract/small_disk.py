"""A folder on a file system of its own that is small, and may be made read-only, seen by one target alone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from roboticks_tasks.targets import Completed
from roboticks_tasks.targets.local import LocalTarget


class SmallDisk:
    """A target in a mount namespace; what it holds is seen from here below `folder`."""

    def __init__(self, enter: Sequence[str], pid: int, path: Path) -> None:
        self.enter = enter
        self._target = LocalTarget()
        self.path = str(path)
        self.folder = Path(f"/proc/{pid}/root{path}")

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command that sees the small file system."""
        return self._target.run([*self.enter, *argv], stdin=stdin, timeout=timeout, repeatable=repeatable)

    def remount(self, options: str) -> None:
        """Change the file system: "ro", "size=2m"."""
        done = self.run(["mount", "-o", f"remount,{options}", self.path])
        assert done.ok, done.last_words

    def fill(self) -> None:
        """Leave not a byte of it free."""
        with suppress(OSError), (self.folder / "fill").open("ab", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))

    def empty(self) -> None:
        """Take back what `fill` has taken."""
        (self.folder / "fill").unlink()


@contextmanager
def open_small_disk(path: Path, *, size: str) -> Iterator[SmallDisk | None]:
    """Lend a target with an empty file system of `size` at `path`; None where this machine allows no mounts."""
    own = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = 'mount -t tmpfs -o size="$1" tmpfs "$2" && echo mounted && read -r _'
    argv = ["unshare", "--mount", *own, "sh", "-c", script, "sh", size, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as holder:
        assert holder.stdout
        if holder.stdout.readline() != b"mounted\n":
            yield None
            return
        user = ["--user", "--preserve-credentials"] if own else []
        yield SmallDisk(["nsenter", "--target", str(holder.pid), *user, "--mount"], holder.pid, path)
        holder.communicate(b"\n")
