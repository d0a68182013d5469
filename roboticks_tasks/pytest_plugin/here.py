"""The run around the tests: its folder, its profile, what may not be read in it, and where commands are noted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from roboticks_tasks import ledger, state
from roboticks_tasks.backend.secrets import redactor_of
from roboticks_tasks.events import Commanded, write_jsonl
from roboticks_tasks.profiles import Board, Profile, board_of, load_profile
from roboticks_tasks.redaction import Redactor
from roboticks_tasks.state import RunState

TESTS_FILE = "tests.jsonl"

MOST_OUTPUT = 4096
"""Characters of a command's output, and of the command itself, that are kept in the run's folder."""


class Here(NamedTuple):
    """A run whose tests this process executes."""

    folder: Path
    run: RunState
    profile: Profile
    redactor: Redactor

    @property
    def board(self) -> Board:
        """Return the leased board."""
        return board_of(self.profile)

    @contextmanager
    def noting(self, command: str) -> Iterator[Note]:
        """Note in the run's folder that the current test commands the board, when the block ends, however it ends."""
        note = Note()
        begin, started = time.time(), time.monotonic()
        try:
            yield note
        except Exception as error:
            note.output = note.output or str(error)
            raise
        finally:
            event = Commanded(
                nodeid=current_test(),
                command=_cut(self.redactor.text(command), end=False),
                exit_code=note.exit_code,
                begin=begin,
                duration=round(time.monotonic() - started, 3),
                output=_cut(self.redactor.text(note.output), end=True),
            )
            write_jsonl(self.folder / TESTS_FILE)(event)


class Note:
    """What is known of a command that is under way."""

    exit_code: int | None = None
    output: str = ""


def here(folder: Path, run: RunState) -> Here:
    """Return the run in `folder`, with the profile that it began with; ConfigError when nobody knows that any more.

    The ledger has it as it was, with the flags of the command line; else it is read by its name.
    """
    begun = (entry.profile for entry in ledger.entries() if entry.run_id == run.run_id)
    profile = next(begun, None) or state.as_in_run(load_profile(run.profile), run)
    return Here(folder, run, profile, redactor_of(profile))


def current_test() -> str | None:
    """Return the id of the test that pytest executes now, None between two; a fixture of a session has one, too."""
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0] or None


def _cut(text: str, *, end: bool) -> str:
    if len(text) <= MOST_OUTPUT:
        return text
    return f"…{text[-MOST_OUTPUT:]}" if end else f"{text[:MOST_OUTPUT]}…"
