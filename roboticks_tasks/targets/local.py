"""This machine as a target."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from roboticks_tasks.errors import TargetError
from roboticks_tasks.signals import SIGNALS
from roboticks_tasks.targets.protocol import Completed


class LocalTarget:
    """Run commands as children of this process, each in a session of its own so that it can be stopped as a whole."""

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command to its end; TargetError when it takes more than `timeout` seconds."""
        pipe = subprocess.PIPE
        process = None
        try:
            with postponed():
                process = subprocess.Popen(list(argv), stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
            stdout, stderr = process.communicate(stdin, timeout=timeout)
        except BaseException as error:
            if process is None:
                return _not_started(argv, error)
            with process, suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise TargetError(f"`{shlex.join(argv)[:200]}` did not end within {timeout:g} s") from None
            raise
        return Completed(process.returncode, stdout, stderr)


@contextmanager
def postponed() -> Iterator[None]:
    """Let a signal that comes during the block be handled at its end: what is started in it is known by then."""
    came: list[int] = []
    with ExitStack() as afterwards:
        afterwards.callback(lambda: list(map(signal.raise_signal, came)))
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):  # what is ignored stays so, for the child as well
                    afterwards.callback(signal.signal, number, handler)
                    signal.signal(number, lambda number, _: came.append(number))
        yield


def _not_started(argv: Sequence[str], error: BaseException) -> Completed:
    """Say what a shell would; whatever is no error of the command is raised again."""
    if isinstance(error, FileNotFoundError):
        return Completed(127, b"", f"{error.filename}: not found".encode())
    if isinstance(error, OSError):
        return Completed(126, b"", f"{argv[0]}: {error.strerror}".encode())
    raise error
