"""This machine as a target."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

from roboticks_tasks.errors import TargetError
from roboticks_tasks.redaction import without_ours
from roboticks_tasks.signals import SIGNALS
from roboticks_tasks.targets.protocol import Completed


class LocalTarget:
    """Run commands as children of this process, each in a session of its own so that it can be stopped as a whole.

    They have this process's environment without our secrets, or `environment` instead.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = environment

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command to its end; TargetError when it takes more than `timeout` seconds.

        A signal to our whole process group can hit the command in the moment before it has a session of its own: a
        repeatable one that says nothing and dies of one is run once more.
        """
        done = self._run(argv, stdin, timeout)
        stillborn = -done.exit_code in SIGNALS and not done.stdout and not done.stderr
        return self._run(argv, stdin, timeout) if stillborn and repeatable else done

    def _run(self, argv: Sequence[str], stdin: bytes, timeout: float) -> Completed:
        pipe = subprocess.PIPE
        process = None
        try:
            with postponed():
                process = subprocess.Popen(
                    list(argv),
                    stdin=pipe,
                    stdout=pipe,
                    stderr=pipe,
                    env=without_ours(os.environ) if self._environment is None else self._environment,
                    start_new_session=True,
                )
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
