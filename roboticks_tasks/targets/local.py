"""This machine as a target."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from roboticks_tasks.errors import TargetError
from roboticks_tasks.targets.protocol import Completed


class LocalTarget:
    """Run commands as children of this process, each in a session of its own so that it can be stopped as a whole."""

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command to its end; TargetError when it takes more than `timeout` seconds."""
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(list(argv), stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        except FileNotFoundError as error:
            return Completed(127, b"", f"{error.filename}: not found".encode())
        except OSError as error:
            return Completed(126, b"", f"{argv[0]}: {error.strerror}".encode())
        with process:
            try:
                stdout, stderr = process.communicate(stdin, timeout=timeout)
            except BaseException as error:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise TargetError(f"`{shlex.join(argv)[:200]}` did not end within {timeout:g} s") from None
                raise
        return Completed(process.returncode, stdout, stderr)
