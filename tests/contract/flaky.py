"""A target whose link breaks where a test wants it to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from roboticks_tasks.errors import TargetError
from roboticks_tasks.targets import Completed, Target

BREAKS = ("before", "half", "after")
"""The command was not run, ran with the first half of its input, or ran to its end without our learning of it."""


class FlakyTarget:
    """Break the link under the commands that `breaks` counts, from 0: one of BREAKS, or "cut" for half an input.

    As every transport it runs a repeatable command again, unless it `gives_up` at once; else it raises TargetError.
    "cut" is a link that loses the end of the input without noticing.
    """

    def __init__(self, target: Target, breaks: Mapping[int, str], *, gives_up: bool = False) -> None:
        self._target = target
        self._breaks = breaks
        self._gives_up = gives_up
        self.commands = 0
        self.sent = 0

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command as the link allows."""
        how = self._breaks.get(self.commands)
        self.commands += 1
        if how != "before":
            arrives = stdin[: len(stdin) // 2] if how in {"half", "cut"} else stdin
            self.sent += len(arrives)
            done = self._target.run(argv, stdin=arrives, timeout=timeout, repeatable=repeatable)
            if how in {None, "cut"}:
                return done
        if not repeatable or self._gives_up:
            raise TargetError("the link broke", remedy="look at the cable")
        self.sent += len(stdin)
        return self._target.run(argv, stdin=stdin, timeout=timeout, repeatable=repeatable)
