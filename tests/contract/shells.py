"""Where the functions over a target are tried out: on every kind of target, and on a board that has only busybox."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from roboticks_tasks.targets import Completed, Target
from roboticks_tasks.targets.local import LocalTarget
from tests.contract.targets import OPENERS
from tests.parts import require

AWKWARD_WORDS = [
    "two words",
    'it\'s "quoted"',
    "new\nline\n",
    "$HOME `id` $(id) \\ * ? [a] ~",
    "",
    "-n",
    "--",
    "\u00fc\u2603\U0001f916",
    "\ttab ",
    ";&|<>(){}#!",
]

APPLETS = """
    [ cat chmod cp date dd df dirname env find grep head id kill ls mkdir mktemp mv od printf rm rmdir sed seq setsid sh
    sha256sum sleep tail tar test tr true uname wc
"""
"""What a small board has."""


class TinyTarget:
    """A target on which nothing is found but what is in one folder."""

    def __init__(self, folder: Path, *, without: Sequence[str] = (), also: Sequence[str] = ()) -> None:
        self._path = folder
        for name in set(APPLETS.split()) - set(without):
            (folder / name).symlink_to(require("busybox"))
        for name in also:
            (folder / name).symlink_to(require(name))

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command of the folder."""
        argv = ["env", "-i", f"PATH={self._path}", *argv]
        return LocalTarget().run(argv, stdin=stdin, timeout=timeout, repeatable=repeatable)


@contextmanager
def open_tiny(*, without: Sequence[str] = (), also: Sequence[str] = ()) -> Iterator[Target]:
    """Lend a target that has only busybox's programs, `without` some of them and `also` with programs of ours."""
    with tempfile.TemporaryDirectory() as folder:
        yield TinyTarget(Path(folder), without=without, also=also)


SHELLS: dict[str, Callable[[], AbstractContextManager[Target]]] = {**OPENERS, "busybox": open_tiny}
