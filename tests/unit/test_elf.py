"""The architecture of a program, read from its first bytes, against what `uname -m` says."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboticks_tasks.errors import BinaryError
from roboticks_tasks.lifecycle.support import elf


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
