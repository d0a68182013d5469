"""For which machine and which C library a program is built, read from its file, against what the target has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Literal, NamedTuple

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

VERSION = re.compile(r"GLIBC_(\d{1,3})\.(\d{1,3})(?:\.\d+)?")
"""The version of glibc that one of a program's dynamic symbols needs."""

LOAD, DYNAMIC, INTERPRETER = 1, 2, 3
"""Kinds of program headers: what is mapped into memory, what the loader must know, the loader's name."""

STRINGS, NEEDS, NEEDS_COUNT = 5, 0x6FFFFFFE, 0x6FFFFFFF
"""Entries of the dynamic section: where its strings are, which versions it needs, and of how many libraries."""

WEAK = 2
"""Flag of a version that the program can do without."""

OF_THE_SYSTEM = ("/lib", "/usr/")
"""Where a loader belongs to the system's own C library; one elsewhere comes with a library of its own."""

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
    for segment in _segments(header):
        if segment.kind == INTERPRETER and segment.offset + segment.size <= len(header):
            name = header[segment.offset : segment.offset + segment.size]
            return name.rstrip(b"\0").decode("utf-8", "replace") or None
    return None


class Segment(NamedTuple):
    """A program header: which bytes of the file are where in the memory."""

    kind: int
    offset: int
    address: int
    size: int


def _segments(content: bytes | mmap) -> Iterator[Segment]:
    """Yield the program headers of an ELF file, as far as `content` has them."""
    if architecture(content[:20]) is None:
        return
    wide, order = content[4] == 2, _order(content)

    def number(at: int, size: int) -> int:
        return int.from_bytes(content[at : at + size], order)

    word = 8 if wide else 4
    table = number(32 if wide else 28, word)
    entry, count = (number(54 if wide else 42, 2), number(56 if wide else 44, 2))
    offset, address, size = (8, 16, 32) if wide else (4, 8, 16)
    for at in range(table, min(table + entry * count, len(content)), max(entry, 1)):
        yield Segment(number(at, 4), number(at + offset, word), number(at + address, word), number(at + size, word))


def check_libraries(header: bytes, target: Target, *, path: str, source: Path | None = None) -> None:
    """Raise BinaryError when the target lacks the program's loader, or has an older glibc than it needs.

    `source` is the program's file on this machine, where there is one: only of that one the versions are known.
    """
    name = loader(header)
    if name is None:
        return
    needed = needed_glibc(source) if source is not None and name.startswith(OF_THE_SYSTEM) else None
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
    """Return the newest version of glibc that a program on this machine cannot do without, None when it needs none.

    It is what the loader asks for (the dynamic section's DT_VERNEED): a version that is only spoken of somewhere in the
    file, in a library that it carries say, is none that the system must have.
    """
    with path.open("rb") as stream:
        try:
            with mmap(stream.fileno(), 0, access=ACCESS_READ) as content:
                found = [match for name in _needed_versions(content) if (match := VERSION.fullmatch(name))]
        except (ValueError, IndexError):  # an empty file, or one that is cut off
            return None
    return max(((int(match[1]), int(match[2])) for match in found), default=None)


def _needed_versions(content: mmap) -> Iterator[str]:
    """Yield the names of the versions that the dynamic loader looks for before it starts a program."""
    segments = list(_segments(content))
    dynamic = next((each for each in segments if each.kind == DYNAMIC), None)
    if dynamic is None:
        return
    order, word = _order(content), 8 if content[4] == 2 else 4

    def number(at: int, size: int) -> int:
        if not 0 <= at <= len(content) - size:
            raise IndexError(at)
        return int.from_bytes(content[at : at + size], order)

    def place(address: int) -> int:
        for each in segments:
            if each.kind == LOAD and each.address <= address < each.address + each.size:
                return address - each.address + each.offset
        raise IndexError(address)

    entries: dict[int, int] = {}
    for at in range(dynamic.offset, dynamic.offset + dynamic.size, 2 * word):
        entries.setdefault(number(at, word), number(at + word, word))
    if not {STRINGS, NEEDS, NEEDS_COUNT} <= entries.keys():
        return
    strings, library = place(entries[STRINGS]), place(entries[NEEDS])
    for _ in range(entries[NEEDS_COUNT]):
        version = library + number(library + 8, 4)
        for _ in range(number(library + 2, 2)):
            if not number(version + 4, 2) & WEAK:
                name = strings + number(version + 8, 4)
                yield content[name : content.find(b"\0", name)].decode("ascii", "replace")
            version += number(version + 12, 4)
        if not (following := number(library + 12, 4)):
            break
        library += following


def _parse(text: str) -> tuple[int, int] | None:
    match = GLIBC.search(text)
    return (int(match[1]), int(match[2])) if match else None


def _order(header: bytes | mmap) -> Literal["little", "big"]:
    return "little" if header[5] == 1 else "big"
