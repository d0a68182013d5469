"""Checks of the boards that a profile names, and of how they are reached."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from roboticks_tasks.profiles.problem import Problem, empty_command
from roboticks_tasks.profiles.values import Board, Power, Profile

SCHEMES = ("socket", "rfc2217")
"""What a console's port may be besides the path of a device."""

IDENTITY = 'name one of serial = "…", mac = "…", dsn = "…", or command = […] with equals = "…"'

SCHEME = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9+.-]*)://")


def reach(profile: Profile) -> Iterator[Problem]:
    """Yield what the kind of target needs of the boards, and they do not have."""
    kind, firmware = profile.target.kind, profile.device_manager.kind == "firmware"
    if firmware and kind != "local":
        yield Problem(
            "device_manager.kind",
            f"`device_manager.kind` is firmware, which needs `target.kind` local, not {kind}",
            "a microcontroller runs no commands: they run on this machine",
            ("target.kind",),
        )
        return
    key = "host" if kind == "ssh" else "console" if kind == "serial" or firmware else None
    if key is None:
        return
    culprit = "device_manager.kind" if firmware else "target.kind"
    because = f"`{culprit}` is {'firmware' if firmware else kind}"
    line = 'host = "…"' if key == "host" else 'console = { port = "/dev/serial/by-id/…" }'
    if not profile.boards:
        yield Problem(culprit, f"{because}, but no board is named", f'add [[boards]] with id = "…" and {line}')
    for index, board in enumerate(profile.boards):
        if getattr(board, key) is None:
            yield Problem(
                f"boards[{index}].{key}",
                f"board {board.id!r} has no `{key}`, and {because}",
                f"add {line} to that board",
                (culprit,),
            )


def repetitions(profile: Profile) -> Iterator[Problem]:
    """Yield boards that are one and the same: two runs would meet on it."""
    seen: dict[tuple[object, ...], int] = {}
    for index, board in enumerate(profile.boards):
        known: list[tuple[str, tuple[object, ...]]] = [("id", (board.id,))]
        if profile.target.kind == "ssh" and board.host is not None:
            known.append(("host", (board.host.lower(), board.port or profile.target.port)))
        if board.console is not None:
            known.append(("console.port", (board.console.port,)))
        for key, value in known:
            first = seen.setdefault((key, *value), index)
            if first != index:
                yield Problem(
                    f"boards[{index}].{key}",
                    f"boards {profile.boards[first].id!r} and {board.id!r} have the same `{key}`, {value[0]}",
                    "give each board its own, or remove one of the two",
                    ("target.port",) if key == "host" else (),
                )


def one_board(board: Board, place: str) -> Iterator[Problem]:
    """Yield what cannot work in the board at `place`, boards[0] say."""
    if board.console is not None:
        yield from _console(board.console.port, f"{place}.console.port")
    identity = board.identity
    if identity is not None:
        parts = (identity.serial, identity.mac, identity.dsn, identity.command, identity.equals)
        if all(part is None for part in parts):
            yield Problem(f"{place}.identity", f"the identity of board {board.id!r} says nothing", IDENTITY)
        if (identity.command is None) != (identity.equals is None):
            given, missing = ("equals", "command") if identity.command is None else ("command", "equals")
            yield Problem(
                f"{place}.identity.{given}",
                f"the identity of board {board.id!r} has `{given}` without `{missing}`",
                "`command` is what to run on the board, `equals` what it must print",
            )
        if identity.command == ():
            yield empty_command(f"{place}.identity.command")
    if board.power is not None:
        yield from _power(board.power, f"{place}.power")


def _console(port: str, place: str) -> Iterator[Problem]:
    match = SCHEME.match(port)
    if match is None:
        return
    expected = "expected the path of a device, socket://host:port or rfc2217://host:port"
    if match["name"].lower() not in SCHEMES:
        yield Problem(place, f"`{place}`: unknown scheme {match['name']}://", expected)
        return
    try:
        parts = urlsplit(port)
        complete = bool(parts.hostname and parts.port)
    except ValueError:  # a port that is no number, or an IPv6 address without its end
        complete = False
    if not complete:
        yield Problem(place, f"`{place}`: {port} names no host and TCP port", expected)


def _power(power: Power, place: str) -> Iterator[Problem]:
    commands = {"on": power.on, "off": power.off, "cycle": power.cycle, "state": power.state}
    for name, command in commands.items():
        if command == ():
            yield empty_command(f"{place}.{name}")
    if all(command is None for command in commands.values()):
        yield Problem(place, f"`{place}` has no command", "add on = […] and off = […], or remove it")
    elif power.safe is not None and commands[power.safe] is None:
        yield Problem(
            f"{place}.safe",
            f"`{place}.safe` is {power.safe}, but no command switches the board {power.safe}",
            f"add {power.safe} = […]",
        )
    elif power.at_start == "cycle" and power.cycle is None and None in {power.on, power.off}:
        yield Problem(
            f"{place}.at_start",
            f"`{place}.at_start` is cycle, but no command does that",
            "add cycle = […], or both on = […] and off = […]",
        )
