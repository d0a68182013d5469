"""Find a profile by name or path, read it, and lay the environment and the flags over it."""

from __future__ import annotations

import difflib
import logging
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from roboticks_tasks.errors import ConfigError
from roboticks_tasks.profiles.boards import candidates
from roboticks_tasks.profiles.checks import check
from roboticks_tasks.profiles.explain import explain
from roboticks_tasks.profiles.values import Profile, Timeouts

ENVIRONMENT = {
    "ROBOTICKS_ROOT": "device_manager.root",
    "ROBOTICKS_API_URL": "backend",
    "ROBOTICKS_ORG": "organization",
    "ROBOTICKS_PROJECT": "project",
    "ROBOTICKS_COMPOSITION": "deployment.composition",
    "ROBOTICKS_COMPOSITION_MODE": "deployment.mode",
    "ROBOTICKS_TEST_COMMAND": "tests.command",
    "ROBOTICKS_TEST_TIMEOUT": "tests.timeout",
}
"""Variables and the key that each overrides. The secret, `ROBOTICKS_PROJECT_SECRET`, never enters a profile."""


log = logging.getLogger(__name__)

MOST_PATIENCE = 1000
"""The largest multiplier of timeouts: with it a wait of minutes becomes one of days."""


def load_profile(
    name_or_path: str | Path,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
    timeout_multiplier: float = 1.0,
    board: str | None = None,
) -> Profile:
    """Read a profile: `overrides` (dotted keys) beat `ROBOTICKS_*` variables, these the file, and that the defaults.

    `environ` is the process's environment unless given. Every timeout but the tests' is multiplied by
    `timeout_multiplier`. With `board`, the profile is narrowed to that one of its boards. Raises ConfigError for an
    unknown profile or board (with the nearest names), for TOML that does not parse (with the line), for a key or value
    that does not fit, and for keys that cannot work together (with file, line and key).
    """
    environ = os.environ if environ is None else environ
    path = _find(str(name_or_path), environ)
    text = _text(path)
    profile = _convert(text, path)
    sources: dict[str, str] = {}
    for variable, key in ENVIRONMENT.items():
        if value := environ.get(variable):
            if key == "backend" and profile.backend == "local":
                log.warning("%s replaces the local platform of profile %r", variable, profile.name)
            sources[key] = f"environment variable {variable}"
            profile = _override(profile, key, value, source=sources[key])
    for key, override in (overrides or {}).items():
        if override is not None:
            sources[key] = f"option for {key}"
            profile = _override(profile, key, override, source=sources[key])
    check(profile, path=path, text=text, sources=sources)
    profile = _anchor(_scale(profile, timeout_multiplier))
    return profile if board is None else candidates(profile, board)[0]


def read_profile(text: str, path: Path) -> Profile:
    """Return the profile that `text` would be as the file `path`; ConfigError as of `load_profile`."""
    profile = _convert(text, path)
    check(profile, path=path, text=text)
    return profile


def find_profiles(environ: Mapping[str, str] | None = None) -> dict[str, Path]:
    """Return every profile that can be named, with its file; a nearer folder hides a farther one's."""
    found: dict[str, Path] = {}
    for folder in _folders(os.environ if environ is None else environ):
        for path in sorted(folder.glob("*.toml")):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def shipped_profiles() -> dict[str, Path]:
    """Return the profiles that come with this package, whatever a nearer folder holds under the same name."""
    return {path.stem: path for folder in reversed(_shipped()) for path in sorted(folder.glob("*.toml"))}


def _folders(environ: Mapping[str, str]) -> list[Path]:
    extra = [Path(item) for item in environ.get("ROBOTICKS_PROFILES", "").split(os.pathsep) if item]
    return [Path("hardware_profiles"), *extra, *_shipped()]


def _shipped() -> list[Path]:
    """Return where a wheel puts the shipped profiles, and where a checkout has them."""
    package = Path(__file__).resolve().parent.parent
    return [package / "hardware_profiles", package.parent / "hardware_profiles"]


def _find(name: str, environ: Mapping[str, str]) -> Path:
    if name.endswith(".toml") or os.sep in name:
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"profile file {name} does not exist", remedy="give a path to a TOML file, or a name")
        return path
    known = find_profiles(environ)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known) or 'none'}"
        raise ConfigError(
            f"unknown profile {name!r}: no {name}.toml in ./hardware_profiles, $ROBOTICKS_PROFILES or the package",
            remedy=hint,
        )
    return known[name]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"profile {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"profile {path} is not UTF-8 text (byte {error.start})") from error


def _convert(text: str, path: Path) -> Profile:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"profile {path} is not valid TOML: {error}", remedy="mend that line") from error
    try:
        if "name" in document:  # the file's own name is the profile's; the schema knows no such key either
            raise msgspec.ValidationError("Object contains unknown field `name`")
        return msgspec.convert({**document, "name": path.stem}, Profile)
    except msgspec.ValidationError as error:
        raise ConfigError(explain(error, path=path, text=text)) from error


def _override(profile: Profile, key: str, value: object, *, source: str) -> Profile:
    document: dict[str, Any] = msgspec.to_builtins(profile)
    *tables, last = key.split(".")
    table = document
    for name in tables:
        table = table[name]
    table[last] = value
    try:
        return msgspec.convert(document, Profile, strict=False)
    except msgspec.ValidationError as error:
        reason = str(error).partition(" - at ")[0]
        raise ConfigError(f"{source}: {reason} (it sets `{key}`), got {value!r}") from error


def _anchor(profile: Profile) -> Profile:
    """Make the folders of this machine absolute, so that a later step may run in another working directory."""
    replace = msgspec.structs.replace
    platform = replace(profile.local_platform, directory=_absolute(profile.local_platform.directory))
    manager, deployment, target = profile.device_manager, profile.deployment, profile.target
    target = replace(target, known_hosts=_absolute(target.known_hosts))
    if target.identity_file is not None:
        target = replace(target, identity_file=_absolute(target.identity_file))
    if profile.target.kind == "local":
        manager = replace(manager, root=_absolute(manager.root))
    if manager.source is not None and manager.source.path is not None:
        manager = replace(manager, source=replace(manager.source, path=_absolute(manager.source.path)))
    if deployment.path is not None and not deployment.path.startswith("package:"):
        deployment = replace(deployment, path=_absolute(deployment.path))
    return replace(profile, target=target, local_platform=platform, device_manager=manager, deployment=deployment)


def _absolute(folder: str) -> str:
    try:
        return str(Path(folder).expanduser().absolute())
    except RuntimeError as error:  # ~somebody who is nobody
        raise ConfigError(f"{folder}: {error}") from error


def _scale(profile: Profile, factor: float) -> Profile:
    if factor == 1.0:
        return profile
    if not 0 < factor <= MOST_PATIENCE:
        raise ConfigError(f"the timeout multiplier must be a number between 0 and {MOST_PATIENCE}, not {factor:g}")
    scaled = {name: value * factor for name, value in msgspec.structs.asdict(profile.timeouts).items()}
    return msgspec.structs.replace(profile, timeouts=Timeouts(**scaled))
