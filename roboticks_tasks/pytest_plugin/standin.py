"""Stand in for the tests of a run that are run by somebody else: end when they do, with their exit code.

A program of its own, with nothing but the standard library: the test command of a run that `pytest --profile` has
started. That pytest listens on the socket which the first argument names.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import sys

PATIENCE = 60
"""Seconds for whoever has to stop us, once nobody tells us any more how the tests ended."""


def main() -> None:
    """Tell what the tests have to know, where their JUnit file is expected say, and wait for their end."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    words = shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    junit = next((word.partition("=")[2] for word in reversed(words) if word.startswith("--junitxml=")), None)
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(sys.argv[1])
        variables = {name: value for name, value in os.environ.items() if name.startswith("ROBOTICKS_")}
        line.sendall(json.dumps({"junit": junit, "variables": variables}).encode() + b"\n")
        print(f"the tests run in pytest, process {sys.argv[2]}: what it prints is on its own terminal", flush=True)
        said = line.makefile("rb").readline()
    if not said.endswith(b"\n"):  # that pytest is gone: the run is being cancelled
        signal.alarm(PATIENCE)
        signal.pause()
    sys.exit(int(said))


if __name__ == "__main__":
    main()
