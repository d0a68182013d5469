"""Targets: places where commands run. A transport implements one method; everything else is built on it."""

from roboticks_tasks.targets.protocol import Completed, Target, open_target

__all__ = ["Completed", "Target", "open_target"]
