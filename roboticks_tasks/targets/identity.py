"""Ask a board who it is, before anything is written to it: in one round trip, and without changing anything there."""

from __future__ import annotations

import re
from typing import NamedTuple

from roboticks_tasks.errors import BoardError, ConfigError, TargetError
from roboticks_tasks.profiles import Board, Profile, board_of
from roboticks_tasks.profiles.values import Identity
from roboticks_tasks.targets.protocol import Completed, Target

# Every line of the answer begins with what it is about, so that no value can be taken for another one. Device trees
# end their strings with a NUL.
ASK = r"""
prefix=$1 wanted=$2 registration=$3
shift 3
tell() { tr -d '\000' | sed "s/^/$1 /"; }
case $wanted in *serial*)
    for file in proc/device-tree/serial-number sys/firmware/devicetree/base/serial-number \
        sys/class/dmi/id/product_serial sys/class/dmi/id/board_serial
    do
        [ -r "$prefix/$file" ] && { cat "$prefix/$file"; echo; } 2>/dev/null | tell serial
    done
    sed -n 's/^Serial[[:space:]]*:[[:space:]]*//p' "$prefix/proc/cpuinfo" 2>/dev/null | tell serial
esac
case $wanted in *mac*)
    for file in "$prefix"/sys/class/net/*/address; do
        kind=mac
        [ -e "${file%/address}/device" ] && kind=hardware-mac
        [ -r "$file" ] && { cat "$file"; echo; } 2>/dev/null | tell "$kind"
    done
esac
case $wanted in *dsn*)
    [ -r "$registration" ] && { cat "$registration"; echo; } 2>/dev/null | tell registration
esac
case $wanted in *command*)
    { "$@" </dev/null; printf '\n%s\n' "$?"; } | tell command
esac
exit 0
"""

EVERYTHING = ("serial", "mac", "dsn")

PLACEHOLDERS = ("none", "default string", "not specified", "not applicable", "system serial number", "unknown")
"""What mainboards say that were never given a serial number, besides `To be filled by O.E.M.`; in lower case."""

REMEDIES = {
    "serial number": "only root may read it on a PC; name `mac`, or `command` and `equals`, in the board's identity",
    "MAC address": "name `serial`, or `command` and `equals`, in the board's identity",
    "DSN": "it is cached when the device has registered once; see `registration_file` and `registration_pattern`",
}


class Answer(NamedTuple):
    """What a board says of itself: each of its numbers that could be read; `hardware` are the addresses of devices."""

    serial: list[str]
    mac: list[str]
    hardware: list[str]
    registration: str
    command: list[str]
    last_words: str


def check_identity(profile: Profile, target: Target) -> None:
    """Compare the board behind `target` with the identity that the profile gives to its board, if it gives one.

    All that the identity names must match. Raises BoardError when something differs or cannot be read, TargetError
    when the board does not answer; nothing is run when there is nothing to compare.
    """
    identity = board_of(profile).identity
    if identity is not None and (wanted := _wanted(identity)):
        compare(profile, ask(profile, target, wanted))


def read_identity(profile: Profile, target: Target) -> dict[str, str]:
    """Return what the board says of itself, for a profile to name: `serial`, `mac` and `dsn`, as far as it has them.

    What mainboards without a serial number say, and addresses of no hardware, are left out: many boards share them.
    """
    answer = ask(profile, target, EVERYTHING)
    serials = [each for each in answer.serial if not _is_placeholder(each)]
    found = {"serial": serials, "mac": answer.hardware, "dsn": _dsns(profile, answer)}
    return {name: values[0] for name, values in found.items() if values}


def ask(profile: Profile, target: Target, wanted: tuple[str, ...], *, prefix: str = "") -> Answer:
    """Read what is `wanted` (serial, mac, dsn, command) below the folder `prefix` of the target, in one round trip."""
    board, spec = board_of(profile), profile.device_manager
    values = {"root": spec.root.rstrip("/") or "/", "board": board.id, "host": board.host or ""}
    command = board.identity.command if board.identity and board.identity.command else ()
    registration, *argv = (_fill(word, values) for word in (spec.registration_file, *command))
    # A command that only prints: when the link breaks under it, it may be asked again.
    words = ["sh", "-c", ASK, "sh", prefix, " ".join(wanted), registration, *argv]
    try:
        done = target.run(words, repeatable=True)
    except TargetError as error:
        said = re.sub("`.*`", "the question", str(error.args[0]), flags=re.DOTALL)  # not the script
        text = f"the board at {_place(board)} cannot be asked who it is: {said}"
        remedy = "mend `identity.command`" if command and not error.remedy else error.remedy
        raise TargetError(text, remedy=remedy) from error
    if not done.ok:
        raise BoardError(f"the board at {_place(board)} cannot be asked who it is: {done.last_words}")
    return _parse(done)


def compare(profile: Profile, answer: Answer) -> None:
    """Raise BoardError when the answer is not that of the profile's board."""
    board = board_of(profile)
    identity = board.identity or Identity()
    if identity.serial is not None:
        _match(board, "serial number", answer.serial, identity.serial)
    if identity.mac is not None:
        _match(board, "MAC address", answer.mac, identity.mac)
    if identity.dsn is not None:
        _match(board, "DSN", _dsns(profile, answer), identity.dsn, exact=True)
    if identity.command is not None:
        if identity.equals is None:
            raise ConfigError(f"the identity of board {board.id!r} has `command` without `equals`", remedy="add it")
        *lines, code = answer.command or ["1"]
        output = "\n".join(lines).strip()
        if code != "0":
            raise BoardError(
                f"the board at {_place(board)} cannot show that it is {board.id}: "
                f"its `identity.command` failed with {code}: {answer.last_words}",
                remedy="mend `identity.command`, or name `serial` or `mac`",
            )
        _match(board, "answer to `identity.command`", [output], identity.equals, exact=True)


def _match(board: Board, what: str, found: list[str], expected: str, *, exact: bool = False) -> None:
    if not found:
        raise BoardError(
            f"the board at {_place(board)} cannot show that it is {board.id}: its {what} cannot be read",
            remedy=REMEDIES.get(what, ""),
        )
    expected = expected.strip()
    if not any(each == expected or (not exact and each.lower() == expected.lower()) for each in found):
        said = " or ".join(dict.fromkeys(each[:100] or "nothing" for each in found))
        raise BoardError(
            f"the board at {_place(board)} is not {board.id}: its {what} is {said}, expected {expected}",
            remedy="check the address and the wiring; if the board was replaced, change `identity` in the profile",
        )


def _parse(done: Completed) -> Answer:
    found: dict[str, list[str]] = {}
    for line in done.stdout.decode("utf-8", "replace").split("\n"):
        kind, _, value = line.rstrip("\r").partition(" ")
        found.setdefault(kind, []).append(value)
    hardware = _addresses(found, "hardware-mac")
    return Answer(
        serial=_values(found, "serial"),
        mac=[*hardware, *_addresses(found, "mac")],
        hardware=hardware,
        registration="\n".join(found.get("registration", [])),
        command=found.get("command", []),
        last_words=done._replace(stdout=b"").last_words,
    )


def _values(found: dict[str, list[str]], kind: str) -> list[str]:
    return [value for each in found.get(kind, []) if (value := each.strip())]


def _addresses(found: dict[str, list[str]], kind: str) -> list[str]:
    return [each for each in _values(found, kind) if each.strip("0:")]  # that of lo says nothing


def _is_placeholder(serial: str) -> bool:
    return serial.lower() in PLACEHOLDERS or serial.lower().startswith("to be filled") or not serial.strip("0")


def _dsns(profile: Profile, answer: Answer) -> list[str]:
    pattern = re.compile(profile.device_manager.registration_pattern)
    match = pattern.search(answer.registration)
    return [match["dsn"]] if match and match["dsn"] else []


def _wanted(identity: Identity) -> tuple[str, ...]:
    return tuple(name for name in (*EVERYTHING, "command") if getattr(identity, name) is not None)


def _fill(word: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def _place(board: Board) -> str:
    return board.host or (board.console.port if board.console else "this machine")
