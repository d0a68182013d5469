"""The one method of a target, and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Completed(NamedTuple):
    """A command that ended: its exit code (127 not found, 126 not executable, as a shell says) and its output."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        """Tell whether the command ended with 0."""
        return self.exit_code == 0

    @property
    def text(self) -> str:
        """Return stdout as text, whatever bytes a device printed."""
        return self.stdout.decode("utf-8", "replace").strip()

    @property
    def last_words(self) -> str:
        """Return the last line of stderr, else of stdout: usually the reason."""
        lines = (self.stderr or self.stdout).decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else "it said nothing"


class Target(Protocol):
    """A POSIX shell somewhere; a new transport implements this one method."""

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command to its end; TargetError when it takes more than `timeout` seconds or the link breaks.

        `repeatable` says that running it twice does no harm: only then is it run again when the link broke under it.
        """
        ...
