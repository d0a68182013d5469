"""A platform that goes away under a test."""

from __future__ import annotations

import os
import signal
from typing import Any


def test_the_platform_knows_the_session(roboticks_run: Any, session: Any, platform: Any) -> None:
    os.kill(roboticks_run.backend.pid, signal.SIGKILL)

    assert platform.session(session.id)["status"] == "active"
