"""The local way to command the device manager: the server of `ctl` on a unix socket, and what its commands do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import socket
import traceback
from typing import TYPE_CHECKING, Any

from roboticks_tasks.sim.device_manager import endings
from roboticks_tasks.sim.device_manager.compositions import READY_TIMEOUT, Compositions
from roboticks_tasks.sim.device_manager.deployment import CompositionError
from roboticks_tasks.sim.device_manager.sessions import ANSWER_TIMEOUT, SessionRefusedError, Sessions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from roboticks_tasks.sim.device_manager.journal import Journal
    from roboticks_tasks.sim.device_manager.state import State

SOCKET = "ctl.sock"
LARGEST_REQUEST = 65_536
COMMANDS: dict[str, tuple[int, tuple[str, ...]]] = {
    "status": (0, ()),
    "start-session": (0, ("--name", "--timeout")),
    "stop-session": (0, ()),
    "list-compositions": (0, ()),
    "start-composition": (1, ("--mode", "--timeout")),
    "stop-composition": (1, ()),
}
"""How many names each command takes, and which options."""


class UsageError(ValueError):
    """The arguments are not a command; the message is one sentence."""


def parse(arguments: list[str]) -> tuple[str, list[str], dict[str, str]]:
    """Return the command, its names and its options (`--mode dev` and `--mode=dev` are the same)."""
    command, rest = arguments[0], iter(arguments[1:])
    if command not in COMMANDS:
        raise UsageError(f"unknown command {command!r} (known: {', '.join(COMMANDS)})")
    count, known = COMMANDS[command]
    names: list[str] = []
    options: dict[str, str] = {}
    for argument in rest:
        option, has_value, value = argument.partition("=")
        if not argument.startswith("--"):
            names.append(argument)
        elif option not in known:
            raise UsageError(f"{command}: unknown option {option} (known: {', '.join(known) or 'none'})")
        elif value := value if has_value else next(rest, ""):
            options[option] = value
        else:
            raise UsageError(f"{command}: {option} needs a value")
    if len(names) != count:
        raise UsageError(f"{command} takes {count or 'no'} name{'s' if count == 0 else ''}, got {len(names)}")
    return command, names, options


def seconds(options: dict[str, str], default: float) -> float:
    """Return the value of `--timeout`."""
    try:
        value = float(options.get("--timeout", default))
    except ValueError:
        value = math.nan
    if not 0 < value <= default:
        given = options["--timeout"]
        raise UsageError(f"--timeout must be a number of seconds, at most {default:g}, got {given!r}")
    return value


async def execute(
    arguments: list[str], state: State, sessions: Sessions, *, compositions: Compositions
) -> dict[str, Any]:
    """Do what the arguments ask for and return the answer, or raise one of the three errors of a refusal."""
    command, names, options = parse(arguments)
    actions: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "start-session": lambda: sessions.start(options.get("--name"), timeout=seconds(options, ANSWER_TIMEOUT)),
        "stop-session": sessions.stop,
        "start-composition": lambda: compositions.start(
            names[0], options.get("--mode"), timeout=seconds(options, READY_TIMEOUT)
        ),
        "stop-composition": lambda: compositions.stop(names[0]),
    }
    if command == "status":
        return state.document
    if command == "list-compositions":
        return compositions.known()
    return await actions[command]()


class Control:
    """The socket and its server."""

    def __init__(
        self, folder: Path, journal: Journal, answer: Callable[[list[str]], Awaitable[dict[str, Any]]]
    ) -> None:
        """`answer(arguments)` returns a JSON object or raises one of the errors of `execute`."""
        self._path, self._journal, self._answer = folder / SOCKET, journal, answer
        self._directory: int | None = None
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen; Ending when the folder cannot be written. A socket left by a crash is replaced."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)
            # A unix address holds 108 bytes; a root below a deep temporary folder is longer. The folder stays open:
            # from Python 3.13 on asyncio looks at this address again to remove the socket.
            self._directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            listener.bind(f"/proc/self/fd/{self._directory}/{SOCKET}")
        except OSError as error:
            listener.close()
            raise endings.storage(str(self._path), error) from error
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=LARGEST_REQUEST)

    def close(self) -> None:
        """Stop listening and take the socket away."""
        if self._server is not None:
            self._server.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            request = await reader.read(LARGEST_REQUEST)
            while chunk := await reader.read(LARGEST_REQUEST):
                request += chunk
                if len(request) > LARGEST_REQUEST:
                    break
            code, text = await self._reply(request.decode("utf-8", "replace").split("\0"))
            # File names may hold bytes that are no UTF-8.
            writer.write(f"{code} {' '.join(text.split())}\n".encode("utf-8", "backslashreplace"))
            await writer.drain()
        writer.close()

    async def _reply(self, arguments: list[str]) -> tuple[int, str]:
        try:
            return 0, json.dumps(await self._answer(arguments))
        except UsageError as error:
            return 2, str(error)
        except (SessionRefusedError, CompositionError) as error:
            return 1, str(error)
        except endings.Ending:
            raise
        except Exception as error:  # one request must not end the device manager
            for line in "".join(traceback.format_exception(error)).splitlines():
                self._journal.error("control", line)
            return 1, f"{arguments[0]}: internal error: {error!r} (the log says more)"
