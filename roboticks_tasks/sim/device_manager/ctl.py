"""The command line client: hand the arguments to the running device manager and print what it answers.

It is run by path, and starts in a few milliseconds because it parses nothing: `control.py` does. The wire is our
choice: arguments separated by NUL bytes, then end of stream; the answer is one digit (the exit code), a space, a line.
"""

from __future__ import annotations

import os
import socket
import sys

USAGE = """\
usage: device-manager ctl COMMAND
  status                                          the device manager's state
  start-session [--name NAME] [--timeout SECONDS]
  stop-session
  list-compositions                               what is deployed, with its modes
  start-composition NAME [--mode MODE] [--timeout SECONDS]
  stop-composition NAME
One line of JSON; exit code 0, 1 refused (the reason on stderr), 2 usage, 3 no device manager is running."""

PATIENCE = 45.0
"""Seconds to wait for an answer: more than the longest command (a session may take 30)."""


def main(arguments: list[str]) -> int:
    """Send one command to the device manager of ROBOTICKS_ROOT and return the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    # No pathlib here: it takes as long to import as all the rest of this program.
    root = os.path.abspath(os.environ.get("ROBOTICKS_ROOT") or "/opt/roboticks")  # noqa: PTH100
    try:
        answer = ask(f"{root}/run", arguments)
    except TimeoutError:
        return _absent(f"the device manager of {root} does not answer")
    except OSError:
        return _absent(f"no device manager is running in {root}")
    code, _, text = answer.strip().partition(" ")
    if code not in ("0", "1", "2"):
        return _absent(f"the device manager of {root} ended before it answered")
    print(text, file=sys.stderr if int(code) else sys.stdout)
    return int(code)


def ask(folder: str, arguments: list[str]) -> str:
    """Send the arguments to the socket `ctl.sock` in `folder` and return the answer; OSError when nobody is there."""
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE)
            # A unix address holds 108 bytes; a root below a deep temporary folder is longer.
            connection.connect(f"/proc/self/fd/{directory}/ctl.sock")
            connection.sendall("\0".join(arguments).encode("utf-8", "surrogateescape"))
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("r", encoding="utf-8", errors="replace") as answer:
                return answer.read()
    finally:
        os.close(directory)


def _absent(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
