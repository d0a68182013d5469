"""What a board says of itself: one shell script, one round trip, nothing written."""

from __future__ import annotations

import shlex
import time
from typing import NamedTuple

from roboticks_tasks.errors import TargetError
from roboticks_tasks.lifecycle.support import elf
from roboticks_tasks.lifecycle.support.places import places
from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets.detached import IDENTITY
from roboticks_tasks.targets.protocol import Target
from roboticks_tasks.targets.staging import DIGEST

PROGRAMS = "cat chmod cp dd dirname env find grep head ls mkdir mktemp mv od rm rmdir setsid sleep tail tar tr wc"
"""What a run calls on a board besides its shell; for sha256sum there are substitutes."""

SERIAL_PROGRAMS = "stty"
"""What it calls there too when all that there is of the board is a serial console."""

HEADER, SERIAL_HEADER = elf.HEADER, 20
"""Bytes of the device manager that are looked at: what it is built for, and over a fast line its loader's name."""

SCRIPT = (
    IDENTITY
    + r"""
say() { printf '%s=%s\n' "$1" "$2"; }
say time "$(date +%s.%N)"
say machine "$(uname -m)"
say user "$(id -un)"
missing=
for program in $programs; do command -v "$program" >/dev/null || missing="$missing $program"; done
(
"""
    + DIGEST
    + r""") || missing="$missing sha256sum"
say missing "$missing"
say head "$(printf abc | head -c 2)"
folder=$root
until [ -d "${folder:=/}" ]; do
    case $folder in */*) folder=${folder%/*} ;; *) folder=. ;; esac
done
say folder "$folder"
[ -w "$folder" ] && say writable yes
set -- $(df -Pk "$folder" | tail -n 1)
while [ $# -gt 5 ]; do case $5 in *%) break ;; esac; shift; done  # the name of a file system may hold spaces
say disk "$4"
while read -r key value unit; do [ "$key" = MemAvailable: ] && say memory "$value"; done </proc/meminfo
[ -e "$binary" ] && say binary yes
if [ -x "$binary" ] && [ -f "$binary" ]; then
    say executable yes
    say header "$(head -c "$size" "$binary" | od -An -v -tx1 | tr -d '\n ')"
fi
[ -d "$deployment" ] && say deployment yes
[ -f "$registration" ] && say registered yes
read -r pid expected <"$pid_file" && [ -n "$expected" ] && [ "$(identity "$pid")" = "$expected" ] && say running "$pid"
say end yes
"""
)


class Facts(NamedTuple):
    """What the script told; sizes in bytes, times in seconds since 1970, None where the board could not say.

    `clock` is the earliest and the latest time that the board's clock can have shown, `asked` what ours showed before
    and after. `folder` is the device manager's root, or the nearest folder above it that exists.
    """

    asked: tuple[float, float]
    clock: tuple[float, float] | None
    machine: str
    user: str
    missing: tuple[str, ...]
    folder: str
    writable: bool
    disk: int | None
    memory: int | None
    has_binary: bool
    executable: bool
    header: bytes
    has_deployment: bool
    registered: bool
    running: int | None


def gather(profile: Profile, target: Target, *, timeout: float) -> Facts:
    """Ask the board for everything at once; TargetError when it does not answer, or does not understand."""
    before = time.time()
    done = target.run(["sh", "-s"], stdin=compose(profile).encode(), timeout=timeout, repeatable=True)
    asked = (before, time.time())
    told = dict(line.split("=", 1) for line in done.stdout.decode("utf-8", "replace").splitlines() if "=" in line)
    if "end" not in told:
        raise TargetError(
            f"the board's shell did not answer a simple script: {done.last_words}",
            remedy="it needs a POSIX shell as `sh`",
        )
    return parse(told, asked)


def compose(profile: Profile) -> str:
    """Return the script for the board of `profile`."""
    where, spec = places(profile), profile.device_manager
    serial = profile.target.kind == "serial"
    settings = {
        "root": where.root,
        "binary": where.binary,
        "deployment": where.deployment,
        "pid_file": where.pid_file,
        "registration": spec.registration_file,
        "programs": f"{PROGRAMS} {SERIAL_PROGRAMS}" if serial else PROGRAMS,
        "size": str(SERIAL_HEADER if serial else HEADER),
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in settings.items()]
    return "\n".join([*lines, "{", SCRIPT, "} 2>/dev/null </dev/null", ""])


def parse(told: dict[str, str], asked: tuple[float, float]) -> Facts:
    """Return the facts that the script's lines name."""
    seconds, _, fraction = told.get("time", "").partition(".")
    clock = None
    if seconds.isdecimal():
        # busybox knows no fractions of a second: its time may then be up to one second later.
        clock = (float(f"{seconds}.{fraction}"),) * 2 if fraction.isdecimal() else (float(seconds), float(seconds) + 1)
    head = () if told.get("head") == "ab" else ("head -c",)
    return Facts(
        asked=asked,
        clock=clock,
        machine=told.get("machine", ""),
        user=told.get("user", ""),
        missing=(*told.get("missing", "").split(), *head),
        folder=told.get("folder", ""),
        writable="writable" in told,
        disk=_kibibytes(told.get("disk")),
        memory=_kibibytes(told.get("memory")),
        has_binary="binary" in told,
        executable="executable" in told,
        header=_hexadecimal(told.get("header", "")),
        has_deployment="deployment" in told,
        registered="registered" in told,
        running=int(told["running"]) if told.get("running", "").isdecimal() else None,
    )


def _kibibytes(word: str | None) -> int | None:
    return int(word) * 1024 if word and word.isdecimal() else None


def _hexadecimal(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
