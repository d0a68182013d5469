"""The state file: what any process may know about this device manager, one line of JSON replaced at every change."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from roboticks_tasks.sim.device_manager import files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORMAT = 1
SHOWN_TO_THE_PLATFORM = frozenset({"phase", "session", "compositions"})


class State:
    """The document and its file; `on_change` is told when something changed that a heartbeat carries."""

    def __init__(self, path: Path) -> None:
        """Write the first state; Ending when the file cannot be written."""
        self._path = path
        self.on_change: Callable[[], None] = lambda: None
        self.document: dict[str, Any] = {
            "pid": os.getpid(),
            "phase": "starting",
            "dsn": None,
            "error": None,
            "session": None,
            "compositions": [],
            "bus": None,
            "version": FORMAT,
        }
        self._write()

    def update(self, **changes: Any) -> None:
        """Change these keys of the document and replace the file when that made a difference."""
        different = {key for key, value in changes.items() if self.document[key] != value}
        if not different:
            return
        self.document.update(changes)
        self._write()
        if different & SHOWN_TO_THE_PLATFORM:
            self.on_change()

    def _write(self) -> None:
        files.replace(self._path, json.dumps(self.document) + "\n")


def error(code: str, message: str) -> dict[str, str]:
    """Return the value of the state's `error`."""
    return {"code": code, "message": message}
