"""Which physical board a run has, and that it has it alone."""

from roboticks_tasks.boards.lease import lease

__all__ = ["lease"]
