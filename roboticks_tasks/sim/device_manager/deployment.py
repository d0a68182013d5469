"""What is deployed: the composition.yaml files below <root>/deployment, read and checked.

That a composition is something found in the deployment folder is documented; its file name and format are our choice:

    name: HelloWorldComposition        # optional, the folder's name
    default_mode: prod                 # optional: prod when there is one, else the first mode
    modes:                             # optional, a list of names or a mapping; default: prod
      dev: {environment: {KEY: value}}
      prod: {}
    modules:
      - name: greeter
        command: [python, greeter.py]  # run in the composition's folder
        environment: {KEY: value}
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from roboticks_tasks.sim.device_manager import yamlfile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "composition.yaml"
DEFAULT_MODE = "prod"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
ENVIRONMENT_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESERVED = frozenset(
    {
        "bus",
        "commands",
        "compositions",
        "control",
        "device-manager",
        "faults",
        "guard",
        "link",
        "logs",
        "registration",
        "sessions",
    }
)
"""Under these names the device manager's own parts write to the log: no module may look like one."""


class CompositionError(ValueError):
    """A composition is unknown or its file is wrong; the message is one sentence with the file and the key."""


@dataclass(frozen=True, kw_only=True)
class ModuleSpec:
    """One module: what to run, with which environment."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Composition:
    """One composition; `modes` maps each mode to its environment."""

    name: str
    folder: Path
    default_mode: str
    modes: Mapping[str, Mapping[str, str]]
    modules: tuple[ModuleSpec, ...]


def names(deployment: Path) -> list[str]:
    """Return the names of all folders that hold a composition file, sorted; none when there is no such folder."""
    try:
        return sorted(entry.name for entry in deployment.iterdir() if (entry / FILE).is_file())
    except OSError:
        return []


def find(deployment: Path, name: str) -> Composition:
    """Return the composition of this name; CompositionError lists the known ones when there is none."""
    known = names(deployment)
    if name not in known:
        there_are = f"known: {', '.join(known)}" if known else f"none is deployed in {deployment}"
        raise CompositionError(f"unknown composition {name!r} ({there_are})")
    return read(deployment / name)


def read(folder: Path) -> Composition:
    """Return the composition in `folder`; CompositionError says what is wrong with its file."""
    try:
        document = yamlfile.read(folder / FILE)
    except yamlfile.UnreadableError as error:
        raise CompositionError(str(error)) from error
    return parse(document, folder=folder)


def parse(document: object, *, folder: Path) -> Composition:
    """Return the composition of a file that has been read; CompositionError names the file and the key."""
    where = f"{folder / FILE}:"
    top = _mapping(document, where, known=("name", "default_mode", "modes", "modules"))
    name = _name(top.get("name", folder.name), f"{where} name")
    if name != folder.name:
        raise CompositionError(f"{where} name is {name!r} but the folder is {folder.name!r}")
    modes = _modes(top.get("modes", [DEFAULT_MODE]), f"{where} modes")
    default = top.get("default_mode", DEFAULT_MODE if DEFAULT_MODE in modes else next(iter(modes)))
    if default not in modes:
        raise CompositionError(f"{where} default_mode {default!r} is not one of its modes ({', '.join(modes)})")
    items = top.get("modules")
    if not isinstance(items, list) or not items:
        raise CompositionError(f"{where} modules must be a list of at least one module, got {items!r}")
    modules = tuple(_module(item, f"{where} modules[{index}]") for index, item in enumerate(items))
    seen = [module.name for module in modules]
    twice = next((name for name in seen if seen.count(name) > 1), None)
    if twice is not None:
        raise CompositionError(f"{where} modules has the name {twice!r} twice")
    return Composition(name=name, folder=folder, default_mode=default, modes=modes, modules=modules)


def mode_of(composition: Composition, mode: str | None) -> str:
    """Return the mode to start in, the default for None; CompositionError lists the known ones."""
    if mode is None:
        return composition.default_mode
    if mode not in composition.modes:
        raise CompositionError(
            f"composition {composition.name} has no mode {mode!r} (known: {', '.join(composition.modes)})"
        )
    return mode


def _module(item: object, where: str) -> ModuleSpec:
    fields = _mapping(item, where, known=("name", "command", "environment"))
    command = fields.get("command")
    if not isinstance(command, list) or not command or not all(_usable(word) for word in command) or not command[0]:
        raise CompositionError(f"{where}.command must be a list of texts, the program first, got {command!r}")
    name = _name(fields.get("name"), f"{where}.name")
    if name in RESERVED:
        raise CompositionError(f"{where}.name {name!r} is reserved for the device manager's own part of that name")
    return ModuleSpec(
        name=name,
        command=tuple(command),
        environment=_environment(fields.get("environment"), f"{where}.environment"),
    )


def _modes(value: object, where: str) -> Mapping[str, Mapping[str, str]]:
    if isinstance(value, list) and value:
        return {_name(mode, f"{where}[{index}]"): {} for index, mode in enumerate(value)}
    if not isinstance(value, dict) or not value:
        raise CompositionError(f"{where} must be a list of names or a mapping, with at least one mode, got {value!r}")
    modes: dict[str, Mapping[str, str]] = {}
    for mode, fields in value.items():
        inner = _mapping({} if fields is None else fields, f"{where}.{mode}", known=("environment",))
        modes[_name(mode, where)] = _environment(inner.get("environment"), f"{where}.{mode}.environment")
    return modes


def _environment(value: object, where: str) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CompositionError(f"{where} must be a mapping, got {value!r}")
    for key, content in value.items():
        if not isinstance(key, str) or ENVIRONMENT_KEY.fullmatch(key) is None:
            raise CompositionError(f"{where} has a key that is no variable name: {key!r}")
        # YAML reads yes, on and true alike: which text was meant is for the author to say.
        if isinstance(content, bool) or not (_usable(content) or isinstance(content, int | float)):
            raise CompositionError(f"{where}.{key} must be a text or a number, got {content!r}: put it in quotes")
    return {key: str(content) for key, content in value.items()}


def _mapping(value: object, where: str, *, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CompositionError(f"{where} must be a mapping, got {value!r}")
    unknown = [key for key in value if key not in known]
    if unknown:
        raise CompositionError(f"{where} unknown key {unknown[0]!r} (known: {', '.join(known)})")
    return value


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or NAME.fullmatch(value) is None:
        raise CompositionError(f"{where} must be a name of letters, digits, '_', '-' and '.', got {value!r}")
    return value


def _usable(text: object) -> bool:
    return isinstance(text, str) and "\0" not in text
