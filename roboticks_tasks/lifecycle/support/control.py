"""The profile's control commands: how a device manager that runs is told to do something."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from roboticks_tasks.errors import TargetError
from roboticks_tasks.lifecycle.support.places import fill
from roboticks_tasks.models import DeviceManager
from roboticks_tasks.targets import Completed, Target
from roboticks_tasks.targets.batch import run_all


def control(
    target: Target, command: Sequence[str], dm: DeviceManager, *, limit: float, **values: object
) -> dict[str, Any]:
    """Run a control command with its {placeholders} filled in; return the JSON object that it printed.

    `limit` is in seconds. TargetError with the command's last words when it fails.
    """
    return answer_of(target.run(argv_of(command, dm, **values), timeout=limit))


def control_each(
    target: Target, command: Sequence[str], dm: DeviceManager, names: Sequence[str], *, limit: float, **values: object
) -> dict[str, str]:
    """Run a control command for each composition of `names`, side by side; return the failed ones with the reason."""
    commands = [argv_of(command, dm, composition=name, **values) for name in names]
    failed = {}
    for name, done in zip(names, run_all(target, commands, timeout=limit), strict=True):
        try:
            answer_of(done)
        except TargetError as error:
            failed[name] = str(error)
    return failed


def argv_of(command: Sequence[str], dm: DeviceManager, **values: object) -> list[str]:
    """Fill in one of the profile's control commands; ROBOTICKS_ROOT tells it which device manager is meant."""
    return ["env", f"ROBOTICKS_ROOT={dm.root}", *fill(command, binary=dm.binary, root=dm.root, **values)]


def answer_of(done: Completed) -> dict[str, Any]:
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
