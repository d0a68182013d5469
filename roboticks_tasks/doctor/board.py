"""What a board's facts mean for a run on it; every judgement is a pure function of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from roboticks_tasks.doctor.facts import Facts
from roboticks_tasks.doctor.findings import Seen, failed, ok, warning
from roboticks_tasks.doctor.sizes import Source, readable
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.lifecycle.support import elf
from roboticks_tasks.lifecycle.support.places import places
from roboticks_tasks.profiles import Profile

SKEW, MOST_SKEW = 1.0, 60.0
"""Seconds that two clocks may differ: before times in logs mislead, and before a fresh certificate is not valid yet."""

SHELL = 0.050
"""Seconds for a command that does nothing, on a connection that is open."""

DISK, LEAST_DISK = 500_000_000, 50_000_000
MEMORY, LEAST_MEMORY = 100_000_000, 20_000_000
"""Bytes: less is a warning, less than the second a failure."""


class Known(NamedTuple):
    """All that the judgements are made of: the profile, what the board said, what is to be brought to it.

    `startup` is in seconds, None where no login shell is started for each command; `in_use` are the words of a run that
    has the board, `asked` what became of questions that took a round trip of their own.
    """

    profile: Profile
    facts: Facts
    source: Source
    startup: float | None = None
    has_secret: bool = True
    in_use: str | None = None
    asked: Mapping[str, Seen | None] = {}


def shell_startup(known: Known) -> Seen | None:
    """Judge what each command costs before it begins."""
    if known.startup is None:
        return None
    milliseconds = f"{known.startup * 1000:.0f} ms"
    if known.startup <= SHELL:
        return ok(f"{milliseconds} per command")
    return warning(
        f"each command takes {milliseconds} before it does anything: the login shell's start-up files, or the network",
        "let ~/.bashrc return at once where there is no terminal, [ -t 0 ] || return; if it does, look at the network",
    )


def clock(known: Known) -> Seen:
    """Judge the board's clock against this machine's, whatever time the question was on its way."""
    facts = known.facts
    if facts.clock is None:
        return warning("the board's `date +%s` says nothing", "compare its clock by hand: TLS depends on it")
    return judge_clock("the board's clock", facts.clock, facts.asked, remedy="set it: `timedatectl set-ntp true` there")


def judge_clock(whose: str, theirs: tuple[float, float], ours: tuple[float, float], *, remedy: str) -> Seen:
    """Judge a clock that showed something within `theirs` while ours went from the first to the second of `ours`."""
    behind, ahead = ours[0] - theirs[1], theirs[0] - ours[1]
    skew = max(0.0, behind, ahead)
    if skew <= SKEW:
        return ok(f"{whose} agrees with this machine's" if skew < 0.05 else f"{whose} is {skew:.1f} s off")
    said = f"{whose} is at least {skew:.1f} s {'behind' if behind > ahead else 'ahead of'} this machine's"
    return warning(said, remedy) if skew <= MOST_SKEW else failed(f"{said}: certificates will not be valid", remedy)


def root(known: Known) -> Seen:
    """Judge whether the device manager's folder can be written."""
    facts, wanted = known.facts, known.profile.device_manager.root
    if facts.writable:
        return ok(f"{wanted} can be written" if facts.folder == wanted.rstrip("/") else f"{wanted} can be made")
    user = facts.user or "the user"
    return failed(
        f"{facts.folder} cannot be written by {user}",
        f"on the board: `sudo install -d -o {user} {wanted}`, or set `device_manager.root`",
    )


def disk(known: Known) -> Seen:
    """Judge the space that is left on the board, against what is to be brought to it."""
    facts, size = known.facts, known.source.size
    if facts.disk is None:
        return warning(f"`df -Pk {facts.folder}` says nothing", "look by hand how much space is left")
    said = f"{readable(facts.disk)} free in {facts.folder}"
    if facts.disk < max(LEAST_DISK, size):
        need = f", {readable(size)} are to be brought" if size > LEAST_DISK else ""
        return failed(said + need, "free some space there, old logs and sessions first")
    return warning(said, "free some space there before a long run fills it") if facts.disk < DISK else ok(said)


def memory(known: Known) -> Seen:
    """Judge the memory that programs can have."""
    free = known.facts.memory
    if free is None:
        return warning("/proc/meminfo names no MemAvailable", "look by hand how much memory is left")
    said = f"{readable(free)} available"
    remedy = "find out what takes it: `ps aux --sort=-rss`, or `top` there"
    if free < LEAST_MEMORY:
        return failed(said, remedy)
    return warning(said, remedy) if free < MEMORY else ok(said)


def programs(known: Known) -> Seen:
    """Judge whether the board has the programs that a run calls."""
    missing = known.facts.missing
    if not missing:
        return ok("all that a run needs")
    return failed(f"missing: {', '.join(missing)}", "install coreutils, util-linux, tar, or a busybox that has them")


def architecture(known: Known) -> Seen | None:
    """Judge whether the board can run the machine code of the device manager."""
    source, facts = known.source, known.facts
    header = source.header or facts.header
    path = str(source.path) if source.header else places(known.profile).binary
    if not header:
        return None
    return ok(f"{elf.check(header, facts.machine, path=path) or 'a script'} on {facts.machine or 'an unknown machine'}")


def deployment(known: Known) -> Seen:
    """Judge whether there is something to deploy (its absence is documented as a mere warning)."""
    if known.profile.deployment.path is not None:
        return ok("brought by the run")
    path = places(known.profile).deployment
    if known.facts.has_deployment:
        return ok(path)
    return warning(f"{path} does not exist: no composition will run", "install one there, or set `deployment.path`")


def device_manager(known: Known) -> Seen | None:
    """Judge whether the device manager is there, or will be."""
    spec, path = known.profile.device_manager, places(known.profile).binary
    if spec.kind != "native":
        return None
    if known.facts.executable:
        return ok(path)
    if spec.source is not None:
        return ok("brought by the run")
    if known.facts.has_binary:
        return failed(f"{path} cannot be executed", f"on the board: `chmod +x {path}`")
    return failed(f"{path} does not exist", "install it there, or set `device_manager.source` or `device_manager.root`")


def registration(known: Known) -> Seen:
    """Judge whether the device can register; a ConfigError when it has to and there is no secret."""
    file = known.profile.device_manager.registration_file
    if known.facts.registered:
        return ok(f"known to the platform by {file}")
    if known.profile.backend == "local" or known.has_secret:
        return ok("none yet: it will register with the project secret")
    raise ConfigError(
        f"the device has not registered yet ({file} does not exist), and there is no project secret",
        remedy="set ROBOTICKS_PROJECT_SECRET",
    )


def left_device_manager(known: Known) -> Seen:
    """Judge a device manager that runs although no run has the board."""
    pid = known.facts.running
    if pid is None:
        return ok("no device manager is running")
    if known.in_use is not None:
        return ok(f"one is running (pid {pid}), it belongs to the run that has the board")
    return warning(
        f"a device manager of an earlier run is still running (pid {pid})",
        f"`roboticks-tasks teardown --profile {known.profile.name}` stops it; the next run does it too",
    )


def answer_to(question: str) -> Callable[[Known], Seen | None]:
    """Return what tells what became of a question that was asked while the connection was open."""
    return lambda known: known.asked.get(question)


JUDGEMENTS = {
    "identity": answer_to("identity"),
    "shell start-up": shell_startup,
    "clock": clock,
    "root folder": root,
    "disk": disk,
    "memory": memory,
    "programs": programs,
    "architecture": architecture,
    "C library": answer_to("C library"),
    "Python": answer_to("Python"),
    "device manager": device_manager,
    "deployment": deployment,
    "registration": registration,
    "left device manager": left_device_manager,
}
