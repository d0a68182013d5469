"""Open the target that a profile names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets.local import LocalTarget
from roboticks_tasks.targets.protocol import Target


@contextmanager
def open_target(profile: Profile, target: Target | None = None) -> Iterator[Target]:
    """Lend `target`, or open the profile's own for the block and close it afterwards."""
    if target is not None:
        yield target
        return
    yield LocalTarget()
