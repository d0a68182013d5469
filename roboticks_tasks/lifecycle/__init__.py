"""The seven functions of a hardware-in-the-loop run, and the pipeline that composes them: read pipeline.py first."""

from roboticks_tasks.lifecycle.backend import ensure_backend
from roboticks_tasks.lifecycle.binary import ensure_binary
from roboticks_tasks.lifecycle.board import ensure_board
from roboticks_tasks.lifecycle.cleanup import teardown
from roboticks_tasks.lifecycle.deployment import deploy
from roboticks_tasks.lifecycle.dsn import await_dsn
from roboticks_tasks.lifecycle.launch import attach_dm, launch_dm
from roboticks_tasks.lifecycle.pytest_run import pytest_session
from roboticks_tasks.lifecycle.session import await_session

__all__ = [
    "attach_dm",
    "await_dsn",
    "await_session",
    "deploy",
    "ensure_backend",
    "ensure_binary",
    "ensure_board",
    "launch_dm",
    "pytest_session",
    "teardown",
]
