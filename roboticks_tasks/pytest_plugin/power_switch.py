"""The power of the board, as tests see it; after the test it is what it was before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from roboticks_tasks.boards.power import Action, State, read_state, switch
from roboticks_tasks.pytest_plugin.here import Here

log = logging.getLogger(__name__)


class PowerSwitch:
    """Switch the board that the run has leased; BoardError when a command of the profile fails."""

    def __init__(self, here: Here) -> None:
        self._here = here
        self.known: State | None = None
        self.was_used = False

    def on(self) -> None:
        """Switch the board on; it boots then, see `target.wait`."""
        self._switch("on")

    def off(self) -> None:
        """Switch the board off."""
        self._switch("off")

    def cycle(self) -> None:
        """Switch the board off and on; it boots then, see `target.wait`."""
        self._switch("cycle")

    def state(self) -> State | None:
        """Return on or off, None when the profile has no command to ask."""
        return read_state(self._here.board)

    def _switch(self, action: Action) -> None:
        with self._here.noting(f"power {action}") as note:
            self.known, self.was_used = None, True  # of a cycle that is cut short nobody knows
            switch(self._here.board, action)
            self.known = "off" if action == "off" else "on"
            note.exit_code = 0


@contextmanager
def restoring(here: Here, wait: Callable[[], None]) -> Iterator[PowerSwitch]:
    """Lend the switch for the block, then bring the power back to what it was; a board that boots is waited for.

    What cannot be asked was on: a run gives its board power.
    """
    before = read_state(here.board) or "on"
    power = PowerSwitch(here)
    power.known = before
    try:
        yield power
    finally:
        if power.known != before:
            log.info("board %s gets its power back as it was: %s", here.board.id, before)
            power.on() if before == "on" else power.off()
        if power.was_used and before == "on":
            wait()
