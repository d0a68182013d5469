"""Questions to a board that are a round trip of their own: the steps of a run ask them with the same words."""

from __future__ import annotations

from pathlib import Path

from roboticks_tasks.doctor.findings import Seen, failed, ok, warning
from roboticks_tasks.lifecycle.support import elf
from roboticks_tasks.lifecycle.support.places import places
from roboticks_tasks.profiles import Profile, board_of
from roboticks_tasks.targets.protocol import Target


def identity(profile: Profile, target: Target) -> Seen | None:
    """Ask the board who it is, None for this machine; a BoardError when it is another board than the profile names."""
    if board_of(profile).identity is None:
        if profile.target.kind == "local":
            return None
        return warning(
            "none is declared: another board at this address would be taken for this one",
            f"`roboticks-tasks enroll --profile {profile.name}` shows what it says of itself; add it as `identity`"
            if profile.target.kind == "ssh"
            else "add `identity` to the board in the profile, its serial number say",
        )
    from roboticks_tasks.targets.identity import check_identity

    check_identity(profile, target)
    return ok("it is the board that the profile names")


def c_library(profile: Profile, target: Target, header: bytes, source: Path | None) -> Seen | None:
    """Ask for the loader and the C library of the device manager, None for one that needs none; else a BinaryError.

    `header` are its first bytes, `source` is its file on this machine, where it is to be brought from there.
    """
    loader = elf.loader(header)
    if loader is None or profile.device_manager.kind != "native":
        return None
    elf.check_libraries(header, target, path=str(source or places(profile).binary), source=source)
    needed = elf.needed_glibc(source) if source is not None else None
    version = f", glibc {needed[0]}.{needed[1]} or newer" if needed else ""
    return ok(f"the board has {loader}{version}")


def python(profile: Profile, target: Target) -> Seen | None:
    """Ask for the Python that hosts the bindings or the simulated device manager; a BinaryError when it cannot."""
    spec = profile.device_manager
    interpreter = spec.interpreter or "python3"
    from roboticks_tasks.lifecycle.support import installing

    if spec.kind == "simulated":
        if profile.target.kind == "local":
            installing.check_simulation_here(profile, target)
        else:
            installing.simulation(profile, places(profile), target)
        return ok("it has all that the simulated device manager needs")
    if spec.kind != "bindings":
        return None
    if spec.source is None:
        installing.check_bindings(profile, places(profile), target)
        return ok(f"{interpreter} finds the module {spec.bindings.module}")
    done = target.run([interpreter, "--version"], repeatable=True)
    if not done.ok:
        return failed(
            f"{interpreter} does not run: {done.last_words}",
            "install Python there, or set `device_manager.interpreter`",
        )
    return ok(f"{done.text} ({interpreter}); the run brings the module {spec.bindings.module}")
