"""Which compositions start by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roboticks_tasks.sim.device_manager.deployment import CompositionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from roboticks_tasks.sim.device_manager.settings import Settings


def chosen(settings: Settings, deployed: Sequence[str]) -> Sequence[str]:
    """Return the names of those to start: device.yaml's `autostart`, of which ROBOTICKS_COMPOSITION leaves one.

    That the device manager finds compositions by its configuration and that the variable narrows them is documented.
    Without `autostart` the variable starts nothing: then somebody else deploys (our choice). Errors: CompositionError
    when the variable's composition is not one of them.
    """
    wanted = deployed if settings.autostart is None else settings.autostart
    if settings.composition is None or settings.autostart == ():
        return wanted
    if settings.composition not in wanted:
        known = ", ".join(wanted) or "none is deployed"
        raise CompositionError(
            f"ROBOTICKS_COMPOSITION: {settings.composition!r} is not among the compositions to start ({known})"
        )
    return (settings.composition,)
