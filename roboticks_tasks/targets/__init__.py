"""Targets: places where commands run. A transport implements one method; everything else is built on it."""

from roboticks_tasks.targets.opening import open_target
from roboticks_tasks.targets.protocol import Completed, Target

__all__ = ["Completed", "Target", "open_target"]
