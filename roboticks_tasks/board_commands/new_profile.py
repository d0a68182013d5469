"""`profiles new`: write a profile from the shipped one of its kind, by options, or by questions on a terminal."""

from __future__ import annotations

import argparse
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

from roboticks_tasks.board_commands.questions import ask
from roboticks_tasks.console import say
from roboticks_tasks.errors import EXIT_PASSED, ConfigError
from roboticks_tasks.profiles.files import read_profile, shipped_profiles
from roboticks_tasks.profiles.new import TomlValue, check_name, fill
from roboticks_tasks.profiles.schema import SCHEMA_FILE, profile_schema
from roboticks_tasks.state import write_atomically

FOLDER = Path("hardware_profiles")
"""Where a team keeps its profiles, looked at first."""

KEYS = {
    "board": "boards.id",
    "host": "boards.host",
    "port": "boards.port",
    "user": "target.user",
    "console": "boards.console.port",
    "baudrate": "boards.console.baudrate",
    "root": "device_manager.root",
    "backend": "backend",
}
"""Options of `profiles new` and the key that each sets."""

COMMANDS = ("power_on", "power_off", "power_state")

QUESTIONS = {
    "board": "the board's name in your lab",
    "host": "its host name or address",
    "user": "the user who logs in there",
    "console": "its serial console",
}
"""What is asked on a terminal, where the kind of profile has such a key."""


def new_profile(options: argparse.Namespace) -> int:
    """Write hardware_profiles/NAME.toml from the shipped profile of a kind, asking on a terminal for what is missing.

    Nothing is written unless the result can be used. ConfigError when the file is there already, without --force.
    """
    name = options.name
    check_name(name)
    path = FOLDER / f"{name}.toml"
    if (path.exists() or path.is_symlink()) and not options.force:
        raise ConfigError(f"{path} is there already", remedy="choose another name, or replace it with --force")
    kind = _kind(options)
    template = shipped_profiles()[kind].read_text(encoding="utf-8")
    text = fill(template, _values(options, template)).replace(f"--profile {kind}`", f"--profile {name}`")
    try:
        profile = read_profile(text, path)
    except ConfigError as error:
        raise ConfigError(f"{error}", remedy="nothing was written") from error
    _write(path, text)
    if not (FOLDER / SCHEMA_FILE).exists():
        _write(FOLDER / SCHEMA_FILE, profile_schema())  # the file's first line names it to editors
    say(f"{path} is written, of kind {kind}; look through it, then:")
    if profile.target.kind == "ssh":
        say(f"  roboticks-tasks enroll --profile {name}")
    say(f"  roboticks-tasks doctor --profile {name}")
    return EXIT_PASSED


def _kind(options: argparse.Namespace) -> str:
    kinds = sorted(shipped_profiles())
    kind: str | None = options.kind
    if kind is None and sys.stdin.isatty():
        likely = next((each for each in kinds if each in options.name), "jetson")
        kind = ask(f"kind of hardware ({', '.join(kinds)})", likely)
    if kind not in kinds:
        problem = "the kind of hardware is not given" if kind is None else f"there is no kind {kind!r}"
        raise ConfigError(problem, remedy=f"use --kind with one of {', '.join(kinds)}")
    return kind


def _values(options: argparse.Namespace, template: str) -> dict[str, TomlValue]:
    """Return what the options and the answers say, by the keys of the profile."""
    given: dict[str, Any] = vars(options)
    document = tomllib.loads(template)
    values: dict[str, TomlValue] = {key: given[name] for name, key in KEYS.items() if given[name] is not None}
    fallback = {"board": options.name}
    for name, question in QUESTIONS.items():
        default = _lookup(document, KEYS[name])
        if default is None or KEYS[name] in values:
            continue
        # A name that the lab's network knows is the best guess of the address, and better than an example's.
        default = fallback.get(name, values["boards.id"] if name == "host" else default)
        values[KEYS[name]] = ask(question, str(default)) if sys.stdin.isatty() else str(default)
    if options.identity is not None:
        what, _, value = options.identity.partition("=")
        if what not in {"serial", "mac", "dsn"} or not value:
            raise ConfigError(f"--identity {options.identity}", remedy="expected serial=…, mac=… or dsn=…")
        values["boards.identity"] = {what: value}
    for name in COMMANDS:
        if given[name] is not None:
            values[f"boards.power.{name.removeprefix('power_')}"] = _words(name, given[name])
    return values


def _words(name: str, command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"--{name.replace('_', '-')} {command}: {error}", remedy="quote it as in a shell") from error


def _lookup(document: dict[str, Any], key: str) -> object:
    """Return the value at a dotted key, of a list's first table; None where there is none."""
    value: Any = document
    for name in key.split("."):
        value = value.get(name)
        value = value[0] if isinstance(value, list) else value
        if value is None:
            return None
    return value


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except (OSError, ConfigError) as error:
        cause = error.__cause__ or error
        raise ConfigError(
            f"{path} cannot be written: {getattr(cause, 'strerror', cause)}", remedy="free space, or change the folder"
        ) from error
