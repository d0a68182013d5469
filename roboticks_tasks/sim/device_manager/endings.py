"""How the process ends before its time: one exception that carries the exit code and the sentence for people."""

from __future__ import annotations

BAD_CONFIGURATION = 2
REFUSED = 4
STORAGE = 5
ALREADY_RUNNING = 6
DIES_AT_START = 7
DIES_LATER = 8
BUG = 70


class Ending(Exception):  # noqa: N818 - a way to end, not an error of a part
    """The device manager must end: `code` goes to the state file, `exit_code` to whoever waits for the process."""

    def __init__(self, message: str, *, code: str, exit_code: int) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = exit_code


def storage(path: str, error: OSError) -> Ending:
    """Return the ending for a file that cannot be written (full disk, read-only, no permission)."""
    return Ending(f"cannot write {path}: {error.strerror or error}", code="storage", exit_code=STORAGE)
