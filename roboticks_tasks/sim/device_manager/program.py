"""The program: its folders, its lock, its settings, and then the device manager until it ends."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping

from roboticks_tasks.sim.device_manager import endings, farewell, files, settings
from roboticks_tasks.sim.device_manager.endings import Ending
from roboticks_tasks.sim.device_manager.journal import Journal
from roboticks_tasks.sim.device_manager.manager import DeviceManager
from roboticks_tasks.sim.device_manager.settings import SettingsError
from roboticks_tasks.sim.device_manager.spool import Spool
from roboticks_tasks.sim.device_manager.state import State

FOLDERS = {
    "etc/roboticks": True,
    "run": True,
    "sessions/active": True,
    "sessions/completed": True,
    "spool": True,
    "state": False,
    "log": False,
}
"""What is made below the root; the private ones are closed to others even when somebody else has made them."""


def run(environ: Mapping[str, str] = os.environ) -> int:
    """Be the device manager of this environment until it is stopped, and return the exit code."""
    try:
        journal, status = _prepare(environ)
    except Ending as ending:
        print(f"device-manager: {ending}", file=sys.stderr)
        return ending.exit_code
    try:
        chosen = settings.load(environ)
    except SettingsError as error:
        wrong = Ending(str(error), code="bad-configuration", exit_code=endings.BAD_CONFIGURATION)
        farewell.tell(wrong, journal, status)
        return wrong.exit_code
    try:
        return asyncio.run(DeviceManager(chosen, journal, status, environ=environ).main())
    finally:
        if journal.spool is not None:
            journal.spool.close()


def _prepare(environ: Mapping[str, str]) -> tuple[Journal, State]:
    """Make the folders, take the root's lock, and open the log and the state; Ending when one is not to be had."""
    root = settings.root_of(environ)
    for folder, private in FOLDERS.items():
        files.make_folder(root / folder, private=private)
    try:
        files.lock(root / "run" / "device-manager.lock")
    except BlockingIOError:
        sentence = f"a device manager is already running in {root}"
        raise Ending(sentence, code="already-running", exit_code=endings.ALREADY_RUNNING) from None
    journal = Journal(root / "log" / "device-manager.log", Spool(root / "spool"))
    return journal, State(root / "state" / "device-manager.json")
