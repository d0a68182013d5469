"""The targets that keep the contract. All of them end up on this machine, so tests may look behind them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from roboticks_tasks.targets import Target
from roboticks_tasks.targets.local import LocalTarget

OPENERS: dict[str, Callable[[], AbstractContextManager[Target]]] = {
    "local": lambda: nullcontext(LocalTarget()),
}
"""How each target is opened; a new transport is one line here."""
