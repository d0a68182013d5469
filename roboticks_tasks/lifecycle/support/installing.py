"""The programs of ours that stand where the vendor's binary does: the simulated device manager, the bindings' host."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from roboticks_tasks import on_board
from roboticks_tasks.errors import BinaryError
from roboticks_tasks.lifecycle.support.places import Places, fill
from roboticks_tasks.profiles import Profile
from roboticks_tasks.sim import device_manager as simulated
from roboticks_tasks.targets import Target

OLDEST_FOR_BINDINGS, OLDEST_FOR_SIMULATION = (3, 8), (3, 11)

# Arguments: a module, folders to look in, then `--` and other modules to look for. Prints the interpreter's version,
# the module's folder, what is missing, and which files beside it have its name: they may be for another interpreter.
PROBE = r"""
import sys
print("%d.%d" % sys.version_info[:2])
if sys.version_info < (3, 8):
    sys.exit()
import importlib.util, os
where = sys.argv.index("--")
module, folders, others = sys.argv[1], sys.argv[2:where], sys.argv[where + 1:]
sys.path[0:1] = folders
def find(name):
    try:
        return importlib.util.find_spec(name)
    except ImportError:
        return None
spec = find(module)
print(os.path.dirname(spec.origin or "") if spec else "")
print(" ".join(name for name in ([] if spec else [module]) + others if find(name) is None))
print(" ".join(name for folder in folders if os.path.isdir(folder)
               for name in sorted(os.listdir(folder)) if name.split(".")[0] == module))
"""

HOST_SCRIPT = """\
#!/bin/sh
# The host of the Roboticks device manager's Python bindings.
: "${{ROBOTICKS_ROOT:={root}}}"
export ROBOTICKS_ROOT
if [ "${{1-}}" = ctl ]; then
    exec {python} -I -S {host} "$@"
fi
exec {python} -u {host} run {settings} "$@"
"""


class Program(NamedTuple):
    """The text of the program that is started as the device manager, and of a file that it needs beside it."""

    text: str
    beside: str | None = None


def host_path(where: Places) -> str:
    """Return where the bindings' host is on the target."""
    return f"{where.binary.rpartition('/')[0]}/bindings-host.py"


def simulation(profile: Profile, where: Places, target: Target) -> Program:
    """Return the program that runs the simulated device manager on the target, by its own copy of this package."""
    python = profile.device_manager.interpreter or sys.executable
    folder = None if profile.target.kind == "local" else check_simulation(python, target)
    return Program(simulated.script(_absolute(where.root, profile), python=python, package=folder))


def check_simulation_here(profile: Profile, target: Target) -> None:
    """Raise BinaryError when this machine cannot run the simulated device manager; without a process where possible."""
    python = profile.device_manager.interpreter or sys.executable
    if python != sys.executable:
        check_simulation(python, target)
    elif missing := [name for name in simulated.REQUIREMENTS if not _is_here(name)]:
        raise _lacking(python, missing)


def check_simulation(python: str, target: Target) -> str:
    """Return the folder of the simulated device manager on the target; BinaryError when it cannot run there."""
    source = Path(simulated.__file__).absolute().parents[3]  # of use where the target is this machine by another way
    folder, missing, _ = _probe(
        python,
        simulated.__name__,
        [str(source)],
        target=target,
        oldest=OLDEST_FOR_SIMULATION,
        others=simulated.REQUIREMENTS,
    )
    if missing:
        raise _lacking(python, missing)
    return folder


def bindings_host(profile: Profile, where: Places) -> Program:
    """Return the program that hosts the device manager's Python bindings on the target, and the host itself."""
    spec = profile.device_manager.bindings
    settings = {
        "module": spec.module,
        "path": fill(spec.path, root=where.root),
        "type": spec.type,
        "start": spec.start,
        "start_session": spec.start_session,
        "list_compositions": spec.list_compositions,
        "start_composition": spec.start_composition,
        "stop_composition": spec.stop_composition,
        "state_file": where.state,
        "registration_timeout": profile.timeouts.dsn,
    }
    text = HOST_SCRIPT.format(
        root=simulated.for_double_quotes(_absolute(where.root, profile)),
        python=shlex.quote(_python(profile)),
        host=shlex.quote(_absolute(host_path(where), profile)),
        settings=shlex.quote(json.dumps(settings)),
    )
    host = Path(on_board.__file__).with_name("bindings_host.py")
    return Program(text, beside=host.read_text(encoding="utf-8"))


def check_bindings(profile: Profile, where: Places, target: Target) -> None:
    """Raise BinaryError when the target lacks the interpreter or the module; nothing of the module is run."""
    spec = profile.device_manager.bindings
    folders = fill(spec.path, root=where.root)
    python = _python(profile)
    _, missing, similar = _probe(python, spec.module, folders, target=target, oldest=OLDEST_FOR_BINDINGS)
    if not missing:
        return
    others = f" (there is {', '.join(similar)}, which {python} cannot load)" if similar else ""
    raise BinaryError(
        f"the bindings' module {spec.module!r} is not found in {', '.join(folders) or 'any folder'}{others}, nor among "
        f"the modules of {python} on the target",
        remedy="set `device_manager.bindings.path` or `device_manager.interpreter`",
    )


def _probe(
    python: str,
    module: str,
    folders: Sequence[str],
    *,
    target: Target,
    oldest: tuple[int, int],
    others: Sequence[str] = (),
) -> tuple[str, list[str], list[str]]:
    """Return the folder of a module on the target, the missing modules, and files that are called like it."""
    done = target.run([python, "-c", PROBE, module, *folders, "--", *others], repeatable=True)
    if done.exit_code in {126, 127}:
        raise BinaryError(
            f"the interpreter {python} cannot be run on the target: {done.last_words}",
            remedy="install Python there, or set `device_manager.interpreter`",
        )
    version, *lines = done.stdout.decode("utf-8", "replace").split("\n")
    if not done.ok or not version.replace(".", "").isdecimal():
        raise BinaryError(
            f"{python} on the target is no usable Python: {done.last_words}", remedy="set `device_manager.interpreter`"
        )
    if tuple(map(int, version.split("."))) < oldest:
        raise BinaryError(
            f"{python} on the target is Python {version}, which is older than {oldest[0]}.{oldest[1]}",
            remedy="set `device_manager.interpreter` to a later one",
        )
    folder, missing, similar = lines[:3]
    return folder, missing.split(), similar.split()


def _lacking(python: str, missing: Sequence[str]) -> BinaryError:
    return BinaryError(
        f"the simulated device manager cannot run with {python}: it lacks {', '.join(missing)}",
        remedy=f"try: {python} -m pip install 'roboticks-tasks[sim]'",
    )


def _is_here(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ImportError:  # a parent of it is missing
        return False


def _python(profile: Profile) -> str:
    return profile.device_manager.interpreter or "python3"


def _absolute(path: str, profile: Profile) -> str:
    return str(Path(path).absolute()) if profile.target.kind == "local" else path
