"""Where things are on the target, and commands with their {placeholders} filled in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from roboticks_tasks.errors import TargetError
from roboticks_tasks.models import DeviceManager
from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets import Completed


class Places(NamedTuple):
    """Paths on the target. `root`, binary and deployment are documented; the others are the profile's."""

    root: str
    binary: str
    deployment: str
    pid_file: str
    state: str
    log: str


def places(profile: Profile) -> Places:
    """Return the paths that `profile` means."""
    spec = profile.device_manager
    root = spec.root.rstrip("/") or "/"
    return Places(
        root=root,
        binary=f"{root}/install/bin/device-manager",
        deployment=f"{root}/deployment",
        pid_file=f"{root}/run/device-manager.pid",
        state=fill([spec.state_file], root=root)[0],
        log=fill([spec.log_file], root=root)[0],
    )


def fill(words: Sequence[str], **values: object) -> list[str]:
    """Replace each {name} that is known; other braces are the user's own and stay."""
    filled = []
    for word in words:
        text = word
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", str(value))
        filled.append(text)
    return filled


def control_argv(command: Sequence[str], dm: DeviceManager, **values: object) -> list[str]:
    """Fill in one of the profile's control commands; ROBOTICKS_ROOT tells it which device manager is meant."""
    return ["env", f"ROBOTICKS_ROOT={dm.root}", *fill(command, binary=dm.binary, root=dm.root, **values)]


def control_answer(done: Completed) -> dict[str, Any]:
    """Return the JSON object that a control command printed; TargetError with its last words if it failed."""
    if not done.ok:
        raise TargetError(done.last_words)
    try:
        answer = json.loads(done.text or "{}")
    except json.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        raise TargetError(f"a control command printed no JSON object: {done.text[:120]!r}")
    return answer
