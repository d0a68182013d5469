"""Say why the device manager ends, wherever it can still be said."""

from __future__ import annotations

import sys

from roboticks_tasks.sim.device_manager.endings import STORAGE, Ending
from roboticks_tasks.sim.device_manager.journal import Journal
from roboticks_tasks.sim.device_manager.state import State


def tell(ending: Ending, journal: Journal, status: State) -> None:
    """Say why it ends in the log and in the state, as far as they can still be written."""
    try:
        journal.error("device-manager", str(ending))
        status.update(phase="failed", error={"code": ending.code, "message": str(ending)})
    except Ending as another:
        if ending.exit_code != STORAGE:
            print(f"device-manager: {another}", file=sys.stderr)
