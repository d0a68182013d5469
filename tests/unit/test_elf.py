"""The architecture of a program, read from its first bytes, against what `uname -m` says."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboticks_tasks.errors import BinaryError, Verdict
from roboticks_tasks.lifecycle.support import elf
from roboticks_tasks.targets import Completed
from roboticks_tasks.targets.local import LocalTarget


def header(machine: int, *, big: bool = False) -> bytes:
    return b"\x7fELF\x02" + (b"\x02" if big else b"\x01") + bytes(12) + machine.to_bytes(2, "big" if big else "little")


@pytest.mark.parametrize("big", [False, True])
def test_the_machine_is_read_in_the_byte_order_of_the_file(big: bool) -> None:
    assert elf.architecture(header(0xB7, big=big)) == 0xB7


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\nexit 0\n# long enough", b"\x7fELF", header(0x3E)[:19]])
def test_what_is_not_elf_has_no_architecture_and_runs_anywhere(content: bytes) -> None:
    assert elf.architecture(content) is None
    assert elf.check(content, "aarch64", path="dm") is None


@pytest.mark.parametrize(
    ("code", "machine", "name"),
    [
        (0x3E, "x86_64", "x86_64"),
        (0x3E, "amd64", "x86_64"),
        (0xB7, "aarch64", "aarch64"),
        (0xB7, "arm64", "aarch64"),
        (0x28, "armv7l", "arm"),
        (0x28, "aarch64", "arm"),
        (0x03, "x86_64", "i386"),
        (0x03, "i686", "i386"),
        (0xF3, "riscv64", "riscv64"),
    ],
)
def test_a_program_of_the_targets_family_is_accepted(code: int, machine: str, name: str) -> None:
    assert elf.check(header(code), machine, path="dm") == name


@pytest.mark.parametrize(
    ("code", "machine", "name"),
    [
        (0x3E, "aarch64", "x86_64"),
        (0xB7, "x86_64", "aarch64"),
        (0xB7, "armv7l", "aarch64"),
        (0x3E, "i686", "x86_64"),
        (0xF3, "x86_64", "riscv64"),
        (0x08, "x86_64", "ELF machine 0x8"),
    ],
)
def test_a_program_of_another_family_is_refused_with_both_names(code: int, machine: str, name: str) -> None:
    message = f"the device manager dm is built for {name}, the target is {machine}; provide the {machine} build"
    with pytest.raises(BinaryError) as refused:
        elf.check(header(code), machine, path="dm")
    assert str(refused.value) == message
    assert refused.value.verdict == Verdict.BENCH_ERROR


@pytest.mark.parametrize(("code", "machine"), [(0x08, "mips"), (0x28, "armv5tejl"), (0x102, "loongarch64")])
def test_a_machine_that_we_do_not_know_is_given_the_benefit_of_the_doubt(code: int, machine: str) -> None:
    assert elf.check(header(code), machine, path="dm") is not None


def test_this_interpreter_is_built_for_this_machine() -> None:
    content = Path(sys.executable).resolve().read_bytes()[:20]
    assert elf.check(content, platform.machine(), path=sys.executable) is not None


@given(st.binary(max_size=40))
def test_no_content_breaks_the_reading(content: bytes) -> None:
    code = elf.architecture(content)
    assert code is None or 0 <= code <= 0xFFFF
    elf.loader(content)


class Board:
    """A target whose C library is what a test says; the loader is there unless `loads` is false."""

    def __init__(self, says: str, *, loads: bool = True) -> None:
        self._says, self._loads = says, loads

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        return Completed(0, self._says.encode(), b"") if self._loads else Completed(3, b"", b"")


def program(interpreter: str, *, wide: bool = True, order: Literal["little", "big"] = "little") -> bytes:
    """Return the beginning of a program that is loaded by `interpreter`, as its second program header says."""
    name = interpreter.encode() + b"\0"
    at, entry = (64, 56) if wide else (52, 32)
    word = 8 if wide else 4
    start = at + 2 * entry
    first = bytearray(b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "little" else 2]) + bytes(at - 6))
    first[18:20] = (0x3E).to_bytes(2, order)
    table, sizes = (32, 54) if wide else (28, 42)
    first[table : table + word] = at.to_bytes(word, order)
    first[sizes : sizes + 4] = entry.to_bytes(2, order) + (2).to_bytes(2, order)
    second = bytearray(entry)
    second[0:4] = (3).to_bytes(4, order)
    offset, length = (8, 32) if wide else (4, 16)
    second[offset : offset + word] = start.to_bytes(word, order)
    second[length : length + word] = len(name).to_bytes(word, order)
    return bytes(first) + bytes(entry) + bytes(second) + name


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("order", ["little", "big"])
def test_the_loader_is_read_in_every_width_and_byte_order(wide: bool, order: Literal["little", "big"]) -> None:
    assert elf.loader(program("/lib/ld-musl-armhf.so.1", wide=wide, order=order)) == "/lib/ld-musl-armhf.so.1"


def test_a_program_without_a_loader_is_static(tmp_path: Path) -> None:
    assert elf.loader(header(0x3E) + bytes(100)) is None
    elf.check_libraries(header(0x3E) + bytes(100), Board("", loads=False), path="dm")


def test_this_interpreter_can_be_loaded_here() -> None:
    path = Path(sys.executable).resolve()
    content = path.read_bytes()[: elf.HEADER]
    assert elf.loader(content) is not None
    elf.check_libraries(content, LocalTarget(), path=str(path), source=path)


def test_a_program_of_another_c_library_is_refused() -> None:
    with pytest.raises(BinaryError) as refused:
        elf.check_libraries(program("/lib64/ld-linux-x86-64.so.2"), Board("", loads=False), path="dm")
    assert str(refused.value).startswith(
        "the device manager dm needs the loader /lib64/ld-linux-x86-64.so.2 of glibc, which the target does not have; "
    )
    assert refused.value.verdict == Verdict.BENCH_ERROR


@pytest.mark.parametrize(
    ("says", "fits"),
    [
        ("glibc 2.31", False),
        ("glibc 2.34", True),
        ("ldd (Debian GLIBC 2.28-10+deb10u2) 2.28", False),
        ("ldd (Ubuntu GLIBC 2.39-0ubuntu8) 2.39", True),
        ("ldd (GNU libc) 2.9", False),
        ("musl libc (x86_64)", True),  # a loader for glibc on a system that has another: gcompat
        ("", True),
    ],
)
def test_the_targets_glibc_must_be_as_new_as_the_one_that_is_needed(tmp_path: Path, says: str, fits: bool) -> None:
    file = tmp_path / "dm"
    file.write_bytes(dynamic(versions=["GLIBC_2.4", "GLIBC_2.34", "GLIBC_2.17", "GLIBC_PRIVATE"]))
    head = file.read_bytes()[: elf.HEADER]
    if fits:
        elf.check_libraries(head, Board(says), path="dm", source=file)
        return
    with pytest.raises(BinaryError, match=r"dm needs glibc 2\.34, the target has 2\.\d+; provide a build") as refused:
        elf.check_libraries(head, Board(says), path="dm", source=file)
    assert refused.value.verdict == Verdict.BENCH_ERROR


def dynamic(
    interpreter: str = "/lib/ld.so",
    *,
    versions: Sequence[str],
    weak: bool = False,
    wide: bool = True,
    order: Literal["little", "big"] = "little",
) -> bytes:
    """Return a program that needs `versions` of one library, mapped at an address of its own."""
    word, at, entry, base = (8, 64, 56, 0x10000) if wide else (4, 52, 32, 0x10000)
    start = at + 3 * entry
    strings = b"\0" + b"\0".join(each.encode() for each in versions) + b"\0" + interpreter.encode() + b"\0"
    needs = start + len(strings) + -len(strings) % 8
    table = needs + 16 + 16 * len(versions)

    def number(value: int, size: int = word) -> bytes:
        return value.to_bytes(size, order)

    def segment(kind: int, offset: int, address: int, size: int) -> bytes:
        rest = number(offset) + number(address) + number(address) + number(size) + number(size)
        return (number(kind, 4) + bytes(4) + rest if wide else number(kind, 4) + rest).ljust(entry, b"\0")

    need = number(1, 2) + number(len(versions), 2) + number(0, 4) + number(16, 4) + number(0, 4)
    for index, each in enumerate(versions):
        name = strings.index(each.encode() + b"\0")
        following = 16 if index + 1 < len(versions) else 0
        need += number(0, 4) + number(2 if weak else 0, 2) + number(0, 2) + number(name, 4) + number(following, 4)
    section = b"".join(
        number(tag) + number(value)
        for tag, value in ((5, base + start), (0x6FFFFFFE, base + needs), (0x6FFFFFFF, 1), (0, 0))
    )
    first = bytearray(header(0x3E, big=order == "big").ljust(at, b"\0"))
    first[4] = 2 if wide else 1
    where, sizes = (32, 54) if wide else (28, 42)
    first[where : where + word] = number(at)
    first[sizes : sizes + 4] = number(entry, 2) + number(3, 2)
    name = start + strings.index(interpreter.encode())
    segments = segment(3, name, base + name, len(interpreter) + 1) + segment(1, 0, base, table + len(section))
    content = bytes(first) + segments + segment(2, table, base + table, len(section))
    return (content + strings).ljust(needs, b"\0") + need + section


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("order", ["little", "big"])
def test_the_needed_version_is_read_in_every_width_and_byte_order(
    tmp_path: Path, wide: bool, order: Literal["little", "big"]
) -> None:
    file = tmp_path / "dm"
    file.write_bytes(dynamic(versions=["GLIBC_2.9", "GLIBC_2.17", "GLIBC_2.2.5"], wide=wide, order=order))
    assert elf.needed_glibc(file) == (2, 17)


def test_a_version_that_is_only_spoken_of_is_not_needed(tmp_path: Path) -> None:
    file = tmp_path / "dm"
    file.write_bytes(dynamic(versions=["GLIBC_2.17"]) + b"\0GLIBC_2.99\0")
    assert elf.needed_glibc(file) == (2, 17)
    file.write_bytes(dynamic(versions=["GLIBC_2.99"], weak=True))
    assert elf.needed_glibc(file) is None


def test_a_program_that_carries_its_own_c_library_does_not_need_the_systems(tmp_path: Path) -> None:
    file = tmp_path / "dm"
    file.write_bytes(dynamic("/opt/roboticks/lib/ld-linux-x86-64.so.2", versions=["GLIBC_2.99"]))
    elf.check_libraries(file.read_bytes(), Board("glibc 2.31"), path="dm", source=file)


def test_a_loader_whose_name_is_cut_off_is_not_looked_for() -> None:
    content = program("/lib64/ld-linux-x86-64.so.2")
    elf.check_libraries(content[:-8], Board("", loads=False), path="dm")


def test_what_names_no_version_needs_none(tmp_path: Path) -> None:
    file = tmp_path / "dm"
    for content in (b"", b"#!/bin/sh\n# GLIBC_2.38 is only spoken of\n", program("/lib/ld.so")):
        file.write_bytes(content)
        assert elf.needed_glibc(file) is None


@given(at=st.integers(0, 600), noise=st.binary(max_size=8), end=st.integers(0, 700))
def test_a_damaged_program_breaks_no_reading(
    tmp_path_factory: pytest.TempPathFactory, at: int, noise: bytes, end: int
) -> None:
    content = bytearray(dynamic(versions=["GLIBC_2.17", "GLIBC_2.34"]))
    content[at : at + len(noise)] = noise
    file = tmp_path_factory.getbasetemp() / "damaged"
    file.write_bytes(content[:end])
    elf.needed_glibc(file)
    elf.loader(bytes(content[:end]))
