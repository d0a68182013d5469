"""Stand in for the device manager's Python bindings: the documented calls with their documented arguments.

The other calls have the names that profiles guess. STAND_IN_FAULT breaks one thing.
What was called is noted in `<ROBOTICKS_ROOT>/calls`, so that a test sees it from outside. Like bindings of C++ this
is strict about types: a whole number of seconds is an int.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
import time
import uuid
from pathlib import Path

FAULT = os.environ.get("STAND_IN_FAULT", "")
ROOT = Path(os.environ["ROBOTICKS_ROOT"])

if FAULT == "import-fails":
    raise ImportError("libroboticks.so.1: cannot open shared object file")


class DeviceManager:
    """Registers after a moment, makes sessions, starts a process for each composition."""

    def __init__(self) -> None:
        if FAULT == "constructor-raises":
            raise RuntimeError("no configuration")
        self._since = 0.0
        self._session: str | None = None
        self._running = False
        self._modules: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *arguments: str) -> bool | None:
        note("start", *arguments)
        if FAULT == "start-raises":
            raise RuntimeError("no network")
        if FAULT == "start-returns-false":
            return False
        if FAULT == "crashes":
            ctypes.string_at(0)
        if FAULT == "blocks":
            time.sleep(3600)
        if FAULT == "holds-the-lock":
            mutex = ctypes.create_string_buffer(64)
            for _ in range(2):  # no signal ends the second
                ctypes.PyDLL(None).pthread_mutex_lock(mutex)  # PyDLL, unlike CDLL, keeps the interpreter's lock
        self._since, self._running = time.monotonic(), True
        return None

    def wait_for_registration(self, timeout: int) -> bool:
        if type(timeout) is not int:
            raise TypeError("wait_for_registration(): incompatible function arguments")
        if FAULT == "ends-before-registration":
            self._running = False
            return False
        if FAULT == "never-registers":
            time.sleep(timeout)
            return False
        if FAULT == "waits-for-ever":
            time.sleep(3600)
        time.sleep(max(0.0, self._since + 0.05 - time.monotonic()))
        return True

    def get_dsn(self) -> str:
        return "" if FAULT == "no-dsn" else "WR-001"

    def get_active_session_id(self) -> str | None:
        return self._session

    def start_session(self) -> bool:
        if FAULT == "session-refused":
            return False
        if FAULT != "no-session":
            threading.Timer(0.05, self._create).start()
        return True

    def stop_active_session(self) -> bool:
        note("stop_active_session")
        self._session = None
        return True

    def is_running(self) -> bool:
        return self._running and not (FAULT == "ends-later" and time.monotonic() > self._since + 0.2)

    def stop(self, timeout_seconds: int = 30) -> bool:
        note("stop", timeout_seconds)
        for module in self._modules.values():
            module.kill()
            module.wait()
        self._running = False
        return True

    def list_compositions(self) -> list[str]:
        return sorted(each.name for each in (ROOT / "deployment").iterdir() if each.is_dir())

    def start_composition(self, name: str, mode: str) -> bool:
        note("start_composition", name, mode)
        if FAULT == "composition-raises":
            raise RuntimeError("no camera")
        if FAULT == "composition-refused":
            return False
        self._modules[name] = subprocess.Popen(["sleep", "3600"])
        return True

    def stop_composition(self, name: str) -> bool:
        note("stop_composition", name)
        module = self._modules.pop(name)
        module.kill()
        module.wait()
        return True

    def _create(self) -> None:
        self._session = str(uuid.uuid4())


def note(*call: object) -> None:
    """Note a call, for the test to see."""
    with (ROOT / "calls").open("a", encoding="utf-8") as stream:
        stream.write(" ".join(map(str, call)) + "\n")


if FAULT == "only-documented-calls":
    del DeviceManager.list_compositions, DeviceManager.start_composition, DeviceManager.stop_composition
    del DeviceManager.start_session
if FAULT == "no-class":
    del DeviceManager
