"""Checks of what is wired to a board: its power, which is never switched here, and its serial console."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import msgspec

from roboticks_tasks.boards.power import read_state
from roboticks_tasks.doctor.checks import DEADLINE, Check, simple
from roboticks_tasks.doctor.findings import Seen, failed, ok, skipped, warning
from roboticks_tasks.profiles import Board
from roboticks_tasks.profiles.values import Console, Power

BAUDRATES = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 500000, 576000, 921600, 1000000)
FAST_BAUDRATES = (1152000, 1500000, 2000000, 2500000, 3000000, 3500000, 4000000)
"""What serial hardware usually can."""


OFF = "off"
"""How the finding of a board without power begins."""


def power_checks(board: Board) -> Iterator[Check[Any]]:
    """Yield the checks of the board's power, which is never switched here."""
    power = board.power
    if power is not None:
        yield simple("power commands", "board", lambda: power_commands(power))
        yield simple("power", "board", lambda: power_state(board, power), deadline=DEADLINE + 1)


def power_commands(power: Power) -> Seen:
    """Look for the programs that switch the power."""
    commands = {"on": power.on, "off": power.off, "cycle": power.cycle, "state": power.state}
    named = {f"power.{key}": command[0] for key, command in commands.items() if command}
    missing = [f"{program} (`{key}`)" for key, program in named.items() if shutil.which(program) is None]
    if missing:
        return failed(f"not found: {', '.join(missing)}", "install it, or write its path into the profile")
    return ok(", ".join(sorted(set(named.values()))))


def power_state(board: Board, power: Power) -> Seen:
    """Ask whether the board has power; a BoardError when the command fails."""
    quick = msgspec.structs.replace(power, timeout=min(power.timeout, DEADLINE))
    state = read_state(msgspec.structs.replace(board, power=quick))
    if state is None:
        return ok("whether it is on cannot be asked: no `power.state`")
    if state == "on":
        return ok("on")
    if power.on is None and power.cycle is None:
        return failed(f"{OFF}, and nothing in the profile switches it on", "switch it on by hand, or add `power.on`")
    return warning(
        f"{OFF}: the board itself could not be looked at", "switch it on, as a run does, and run doctor again"
    )


def console_check(console: Console, in_use: str | None) -> Check[Any]:
    """Return the check of the board's serial console."""
    return simple("console", "board", lambda: look_at_console(console, in_use), deadline=DEADLINE + 1)


def look_at_console(console: Console, in_use: str | None) -> Seen:
    """Open the console and close it again; a BoardError says why it cannot be opened, or by whom it is busy."""
    from roboticks_tasks.serial_console.captures import find_capture
    from roboticks_tasks.serial_console.port import open_port

    capture = find_capture(console.port)
    if capture is not None and in_use is not None:
        return ok(f"{console.port} is captured by the run that has the board")
    if capture is not None:
        return warning(
            f"{console.port} is still captured for an earlier run (pid {capture.process.pid}, {capture.log})",
            f"the next run stops that; `kill {capture.process.pid}` does it now",
        )
    if in_use is not None:
        return skipped("left alone: a run has the board")
    open_port(console).close()
    if "://" not in console.port and console.baudrate not in (*BAUDRATES, *FAST_BAUDRATES):
        near = min((*BAUDRATES, *FAST_BAUDRATES), key=lambda rate: abs(rate - console.baudrate))
        return warning(f"{console.port} at {console.baudrate} baud, which is unusual", f"is {near} meant?")
    return ok(f"{console.port} at {console.baudrate} baud")
