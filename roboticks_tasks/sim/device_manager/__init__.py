"""A simulated device manager: a process with the contract of the real one, for laptops and CI without a robot.

It registers with the platform, keeps its key on the device, talks MQTT over mutual TLS, makes sessions when asked,
runs compositions as processes of their own, carries their messages on a ZeroMQ bus, and ships logs and heartbeats.
Read `manager.py` first. Nothing in here imports from the rooms above `sim`.

Importing this package costs next to nothing; `install` puts the program where a device has it.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path, PurePosixPath

VERSION = "1.0.0"
PROGRAM = "install/bin/device-manager"
"""Where the program lives below the root; the path is the platform's (test runner documentation)."""

REQUIREMENTS = ("cryptography", "paho.mqtt", "yaml", "zmq")
"""What the interpreter that runs it must have besides this package."""

_SCRIPT = """\
#!/bin/sh
# The simulated Roboticks device manager.
: "${{ROBOTICKS_ROOT:={root}}}"
export ROBOTICKS_ROOT
if [ "${{1-}}" = ctl ]; then
    shift
    exec {python} -I -S {client} "$@"
fi
{path}exec {python} -P -m roboticks_tasks.sim.device_manager "$@"
"""


def script(root: str, *, python: str = sys.executable, package: str | None = None) -> str:
    """Return the program that runs this package with `python` as the device manager of `root`.

    `package` is this package's folder where the program will run, by default here. `ctl` takes a short cut past `site`
    and the packages, so that a command is answered within a few milliseconds.
    """
    folder = PurePosixPath(package or Path(__file__).absolute().parent)
    source = str(folder.parents[2])
    on_path = PurePosixPath(source).name in ("site-packages", "dist-packages")
    return _SCRIPT.format(
        root=for_double_quotes(root),
        python=shlex.quote(python),
        client=shlex.quote(str(folder / "ctl.py")),
        path="" if on_path else f'PYTHONPATH={shlex.quote(source)}"${{PYTHONPATH:+:$PYTHONPATH}}"\nexport PYTHONPATH\n',
    )


def install(root: Path, python: str = sys.executable) -> Path:
    """Write the program to `<root>/install/bin/device-manager` on this machine and return its path.

    Idempotent and atomic: a program that is running keeps its old script, the same content is left untouched.
    Errors: OSError when the folder cannot be written.
    """
    root = Path(root).absolute()
    text = script(str(root), python=python)
    program = root / PROGRAM
    program.parent.mkdir(parents=True, exist_ok=True)
    if _is_installed(program, text):
        return program
    temporary = program.with_name(f".{program.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.chmod(0o755)
        temporary.replace(program)
    finally:
        temporary.unlink(missing_ok=True)
    return program


def _is_installed(program: Path, text: str) -> bool:
    try:
        return program.read_text(encoding="utf-8") == text and os.access(program, os.X_OK)
    except (OSError, UnicodeDecodeError):
        return False


def for_double_quotes(text: str) -> str:
    """Return `text` so that sh reads it unchanged inside double quotes."""
    return "".join(f"\\{letter}" if letter in '\\"$`}' else letter for letter in text)
