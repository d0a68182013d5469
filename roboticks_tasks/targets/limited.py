"""A target for somebody who has not much time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from roboticks_tasks.targets.protocol import Completed, Target


class Limited:
    """A target on which no command may take longer than what `limit` returns, in seconds, when it begins."""

    def __init__(self, target: Target, limit: Callable[[], float]) -> None:
        self._target = target
        self._limit = limit

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command to its end; TargetError as from the target itself."""
        return self._target.run(argv, stdin=stdin, timeout=min(timeout, self._limit()), repeatable=repeatable)
