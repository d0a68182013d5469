"""What to try when a target refuses something."""

from __future__ import annotations

from roboticks_tasks.errors import TargetError

ADVICE = {
    "Read-only file system": "remount it writable, or set `device_manager.root` to a folder that can be written",
    "Permission denied": "log in as a user who may write there, or set `device_manager.root`",
    "No space left on device": "free space on the target",
    "cannot create directory": "set `device_manager.root` to a folder that can be made",
}
"""The operating system's own words, and what helps."""

OTHERWISE = "`roboticks-tasks doctor` says more of the target"


def remedy_for(error: TargetError) -> str:
    """Return the error's own remedy, else what its words suggest, else who knows more."""
    words = str(error.args[0])
    return error.remedy or next((remedy for text, remedy in ADVICE.items() if text in words), OTHERWISE)
