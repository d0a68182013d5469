"""For which machine a program is built, read from the first 20 bytes of its file."""

from __future__ import annotations

from roboticks_tasks.errors import BinaryError

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


def architecture(header: bytes) -> int | None:
    """Return e_machine of an ELF header, None when it is not ELF (a script, say)."""
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return None
    return int.from_bytes(header[18:20], "little" if header[5] == 1 else "big")


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
        )
    return names[0]
