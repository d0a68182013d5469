"""For which machine and which C library a program is built, read from its file, against what the target has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from roboticks_tasks.errors import BinaryError, Verdict
from roboticks_tasks.targets import Target

HEADER = 4096
"""Bytes at the beginning of a program in which its header and the name of its loader are."""

MACHINES = {
    0x03: ("i386", "i486", "i586", "i686", "x86"),
    0x28: ("arm", "armv6l", "armv7l", "armv8l"),
    0x3E: ("x86_64", "amd64"),
    0xB7: ("aarch64", "arm64"),
    0xF3: ("riscv64", "riscv32"),
}
"""e_machine of the ELF specification, and what `uname -m` says on such a machine."""

ALSO_RUNS = {"x86_64": 0x03, "aarch64": 0x28}
"""64-bit machines that usually run the 32-bit programs of their family too."""

CHUNK = 1 << 20
VERSION = re.compile(rb"GLIBC_(\d{1,3})\.(\d{1,3})(?:\.\d+)?\0")
"""A name among the strings of a program's dynamic symbols: the version of glibc that one of them needs."""

C_LIBRARY = "getconf GNU_LIBC_VERSION 2>/dev/null || ldd --version 2>&1 | head -n 1"
GLIBC = re.compile(r"^(?:glibc|ldd \(.*\)) (\d+)\.(\d+)", re.MULTILINE)


def architecture(header: bytes) -> int | None:
    """Return e_machine of an ELF header, None when it is not ELF (a script, say)."""
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return None
    return int.from_bytes(header[18:20], _order(header))


def check(header: bytes, machine: str, *, path: str) -> str | None:
    """Return the name of the program's architecture; BinaryError when `machine` (of `uname -m`) cannot run it."""
    code = architecture(header)
    if code is None:
        return None
    names = MACHINES.get(code, (f"ELF machine {code:#x}",))
    judged = any(machine in each for each in MACHINES.values())  # of a machine that we do not know we say nothing
    if judged and machine not in names and ALSO_RUNS.get(machine) != code:
        raise BinaryError(
            f"the device manager {path} is built for {names[0]}, the target is {machine}",
            remedy=f"provide the {machine} build",
            verdict=Verdict.BENCH_ERROR,
        )
    return names[0]


def loader(header: bytes) -> str | None:
    """Return the dynamic loader that a program names (its PT_INTERP), None for a static one or what is not ELF."""
    if architecture(header) is None:
        return None
    wide, order = header[4] == 2, _order(header)

    def number(at: int, size: int) -> int:
        return int.from_bytes(header[at : at + size], order)

    table, entry, count = (
        (number(32, 8), number(54, 2), number(56, 2)) if wide else (number(28, 4), number(42, 2), number(44, 2))
    )
    for at in range(table, min(table + entry * count, len(header)), max(entry, 1)):
        if number(at, 4) == 3:  # PT_INTERP
            start, size = (number(at + 8, 8), number(at + 32, 8)) if wide else (number(at + 4, 4), number(at + 16, 4))
            return header[start : start + size].rstrip(b"\0").decode("utf-8", "replace") or None
    return None


def check_libraries(header: bytes, target: Target, *, path: str, source: Path | None = None) -> None:
    """Raise BinaryError when the target lacks the program's loader, or has an older glibc than it needs.

    `source` is the program's file on this machine, where there is one: only that one is searched for versions.
    """
    name = loader(header)
    if name is None:
        return
    needed = needed_glibc(source) if source is not None else None
    done = target.run(["sh", "-c", f'[ -e "$1" ] || exit 3; {C_LIBRARY}', "sh", name], repeatable=True)
    if done.exit_code == 3:
        kind = "musl" if "musl" in name else "glibc"
        raise BinaryError(
            f"the device manager {path} needs the loader {name} of {kind}, which the target does not have",
            remedy="provide a build for the target's C library, or a static one",
            verdict=Verdict.BENCH_ERROR,
        )
    there = _parse(done.text)
    if needed is not None and there is not None and needed > there:
        raise BinaryError(
            f"the device manager {path} needs glibc {needed[0]}.{needed[1]}, the target has {there[0]}.{there[1]}",
            remedy="provide a build for the target's system, or update that",
            verdict=Verdict.BENCH_ERROR,
        )


def needed_glibc(path: Path) -> tuple[int, int] | None:
    """Return the newest version of glibc that a program on this machine names, None when it names none."""
    newest = None
    for chunk in _overlapping(path):
        for match in VERSION.finditer(chunk):
            version = (int(match[1]), int(match[2]))
            newest = version if newest is None else max(newest, version)
    return newest


def target_glibc(target: Target) -> tuple[int, int] | None:
    """Return the version of the target's glibc, None when it has another C library."""
    return _parse(target.run(["sh", "-c", C_LIBRARY], repeatable=True).text)


def _parse(text: str) -> tuple[int, int] | None:
    match = GLIBC.search(text)
    return (int(match[1]), int(match[2])) if match else None


def _overlapping(path: Path) -> Iterator[bytes]:
    """Yield the file in chunks that begin with the end of the one before: no name is cut in two."""
    with path.open("rb") as stream:
        rest = b""
        while chunk := stream.read(CHUNK):
            yield rest + chunk
            rest = chunk[-32:]


def _order(header: bytes) -> Literal["little", "big"]:
    return "little" if header[5] == 1 else "big"
