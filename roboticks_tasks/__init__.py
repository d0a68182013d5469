"""Hardware-in-the-loop test tasks for robots that run the Roboticks device manager.

Every step of a run is a function that can be called alone:

    ensure_binary → launch_dm → await_dsn → await_session → deploy → pytest_session → teardown

The names below are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the name is what type checkers look at; importing `typing` costs half of this module's time

if TYPE_CHECKING:
    from roboticks_tasks.lifecycle import (
        attach_dm,
        await_dsn,
        await_session,
        deploy,
        ensure_backend,
        ensure_binary,
        ensure_board,
        launch_dm,
        pytest_session,
        teardown,
    )
    from roboticks_tasks.lifecycle.pipeline import main
    from roboticks_tasks.lifecycle.run import open_run
    from roboticks_tasks.profiles import Profile, find_profiles, load_profile

__version__ = "0.1.0"

_HOMES = {
    "Profile": "roboticks_tasks.profiles",
    "attach_dm": "roboticks_tasks.lifecycle",
    "await_dsn": "roboticks_tasks.lifecycle",
    "await_session": "roboticks_tasks.lifecycle",
    "deploy": "roboticks_tasks.lifecycle",
    "ensure_backend": "roboticks_tasks.lifecycle",
    "ensure_binary": "roboticks_tasks.lifecycle",
    "ensure_board": "roboticks_tasks.lifecycle",
    "find_profiles": "roboticks_tasks.profiles",
    "launch_dm": "roboticks_tasks.lifecycle",
    "load_profile": "roboticks_tasks.profiles",
    "main": "roboticks_tasks.lifecycle.pipeline",
    "open_run": "roboticks_tasks.lifecycle.run",
    "pytest_session": "roboticks_tasks.lifecycle",
    "teardown": "roboticks_tasks.lifecycle",
}

__all__ = [
    "Profile",
    "attach_dm",
    "await_dsn",
    "await_session",
    "deploy",
    "ensure_backend",
    "ensure_binary",
    "ensure_board",
    "find_profiles",
    "launch_dm",
    "load_profile",
    "main",
    "open_run",
    "pytest_session",
    "teardown",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
