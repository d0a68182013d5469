"""Which physical board a run has, and that it has it alone."""

from roboticks_tasks.boards.lease import holder, lease

__all__ = ["holder", "lease"]
