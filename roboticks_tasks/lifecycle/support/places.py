"""Where things are on the target, and commands with their {placeholders} filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from roboticks_tasks.models import DeviceManager
from roboticks_tasks.profiles import Profile

NOWHERE = "/dev/null/device-manager.json"
"""Where nothing can ever be: the state file of a device manager that writes none."""


class Places(NamedTuple):
    """Paths on the target. `root`, binary and deployment are documented; the others are the profile's."""

    root: str
    binary: str
    deployment: str
    pid_file: str
    state: str
    log: str


def places(profile: Profile, dm: DeviceManager | None = None) -> Places:
    """Return the paths that `profile` means; those of `dm` where one runs already."""
    spec = profile.device_manager
    root = (dm.root if dm else spec.root).rstrip("/") or "/"
    return Places(
        root=root,
        binary=f"{root}/install/bin/device-manager",
        deployment=f"{root}/deployment",
        pid_file=f"{root}/run/device-manager.pid",
        state=fill([spec.state_file], root=root)[0],
        log=fill([spec.log_file], root=root)[0],
    )


def is_hosted(profile: Profile) -> bool:
    """Tell whether the device manager is a process of the target, which can be started and stopped.

    A microcontroller's firmware is its own device manager: all that is seen of it is its console, and only its power
    stops it.
    """
    return profile.device_manager.kind != "firmware"


def fill(words: Sequence[str], **values: object) -> list[str]:
    """Replace each {name} that is known; other braces are the user's own and stay."""
    filled = []
    for word in words:
        text = word
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", str(value))
        filled.append(text)
    return filled
