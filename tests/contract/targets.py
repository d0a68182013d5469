"""The targets that keep the contract. All of them end up on this machine, so tests may look behind them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from roboticks_tasks.targets import Target
from roboticks_tasks.targets.local import LocalTarget
from roboticks_tasks.targets.ssh import open_ssh
from tests.contract.pty_board import open_board
from tests.contract.sshd import running_sshd


@contextmanager
def _ssh() -> Iterator[Target]:
    with (
        tempfile.TemporaryDirectory() as folder,
        running_sshd(Path(folder) / "sshd") as sshd,
        open_ssh(sshd.profile()) as target,
    ):
        yield target


OPENERS: dict[str, Callable[[], AbstractContextManager[Target]]] = {
    "local": lambda: nullcontext(LocalTarget()),
    "serial": open_board,
    "ssh": _ssh,
}
"""How each target is opened; a new transport is one line here."""
