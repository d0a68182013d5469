"""What the device manager is told: the environment beats device.yaml beats the defaults.

That there is a device.yaml, looked for in several places, is documented; its keys and places are our choice.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from roboticks_tasks.sim.device_manager import faults, yamlfile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT_ROOT = "/opt/roboticks"
DEFAULT_API_URL = "https://api.roboticks.io"
LONGEST_INTERVAL = 86_400.0
LONGEST_KEEPALIVE = 65_535
"""What fits into the two bytes that MQTT has for it."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Where plain http is allowed: the secret does not leave the machine (the vendor's own command line does the same)."""

SYSTEM_FILE = "/etc/roboticks/device.yaml"


class SettingsError(ValueError):
    """A setting is wrong; the message is one sentence that names the file or variable and the key."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set; `project_secret` is kept out of repr."""

    root: Path
    name: str
    type: str = "robot"
    api_url: str = DEFAULT_API_URL
    project_secret: str = field(default="", repr=False)
    test_device: bool = False
    heartbeat_interval: float = 5.0
    keepalive: int = 15
    """Seconds of silence after which the connection to the broker is tried; a dead one is noticed in twice that."""
    autostart: tuple[str, ...] | None = ()
    """Compositions to start by themselves; None means all of them."""
    composition: str | None = None
    """The only one of them to start (documented: ROBOTICKS_COMPOSITION)."""
    composition_mode: str | None = None
    """The mode to start them in (documented: ROBOTICKS_COMPOSITION_MODE); None means the default mode of each."""
    bus_port: int | None = None
    """The bus's port, 0 for any free one; None is the documented one, or any free one when that is taken."""
    auto_session: bool = False
    faults: Mapping[str, float] = field(default_factory=dict)


def root_of(environ: Mapping[str, str]) -> Path:
    """Return the absolute root folder the environment names."""
    return Path(environ.get("ROBOTICKS_ROOT") or DEFAULT_ROOT).absolute()


def load(environ: Mapping[str, str]) -> Settings:
    """Return the settings of this environment and its device.yaml; SettingsError names what is wrong."""
    root = root_of(environ)
    values: dict[str, Any] = {"name": f"sim-{socket.gethostname()}"}
    path = find(root)
    if path is not None:
        values.update(parse(_document(path), source=str(path)))
    for variable, key in (("ROBOTICKS_API_URL", "api_url"), ("ROBOTICKS_PROJECT_SECRET", "project_secret")):
        if environ.get(variable):
            values[key] = _CHECKS[key](environ[variable], f"{variable}:")
    if environ.get("TEST_DEVICE"):
        values["test_device"] = _flag_text(environ["TEST_DEVICE"], "TEST_DEVICE:")
    for variable, key in (("ROBOTICKS_COMPOSITION", "composition"), ("ROBOTICKS_COMPOSITION_MODE", "composition_mode")):
        values[key] = environ.get(variable) or None
    try:
        ordered = faults.parse(environ.get(faults.VARIABLE, ""))
    except ValueError as error:
        raise SettingsError(str(error)) from None
    return Settings(root=root, faults=ordered, **values)


def find(root: Path) -> Path | None:
    """Return the first device.yaml there is, or None."""
    places = (root / "device.yaml", root / "etc" / "device.yaml", Path(SYSTEM_FILE))
    return next((place for place in places if place.is_file()), None)


def parse(document: object, *, source: str) -> dict[str, Any]:
    """Return the checked values of a device.yaml that has been read; SettingsError names `source` and the key."""
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SettingsError(f"{source}: must be a mapping of keys to values, got {type(document).__name__}")
    unknown = [key for key in document if key not in _CHECKS]
    if unknown:
        raise SettingsError(f"{source}: unknown key {unknown[0]!r} (known: {', '.join(_CHECKS)})")
    return {key: _CHECKS[key](value, f"{source}: {key}") for key, value in document.items()}


def _document(path: Path) -> object:
    try:
        return yamlfile.read(path)
    except yamlfile.UnreadableError as error:
        raise SettingsError(str(error)) from error


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise SettingsError(f"{where} must be a text, got {value!r}")
    return value


def _secret(value: object, where: str) -> str:
    if not isinstance(value, str) or not (value.isascii() and value.isprintable()):
        raise SettingsError(f"{where} must be a text of printable ASCII characters")
    return value


def _url(value: object, where: str) -> str:
    text = _text(value, where).rstrip("/")
    if "@" in text:  # not shown: it may be a password
        raise SettingsError(f"{where} must not hold a user name or a password (it has an '@')")
    try:
        parts = urlsplit(text)
        (parts.hostname or "").encode("idna")  # as connecting will: a name with an empty or too long label fails there
        usable = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
            and (text.isascii() and text.isprintable() and " " not in text)
        )
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(f"{where} must be an http or https address in ASCII, got {value!r}")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise SettingsError(
            f"{where} must begin with https://, http would send the project secret in clear (it is for"
            f" {', '.join(LOOPBACK)} only), got {value!r}"
        )
    return text


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(f"{where} must be true or false, got {value!r}")
    return value


def _flag_text(value: str, where: str) -> bool:
    if value.lower() in ("true", "1", "yes"):
        return True
    if value.lower() in ("false", "0", "no"):
        return False
    raise SettingsError(f"{where} must be true or false, got {value!r}")


def _seconds(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LONGEST_INTERVAL:
        raise SettingsError(f"{where} must be a number of seconds above 0 and at most a day (86400), got {value!r}")
    return float(value)


def _whole_seconds(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LONGEST_KEEPALIVE:
        raise SettingsError(f"{where} must be a whole number of seconds from 1 to {LONGEST_KEEPALIVE}, got {value!r}")
    return value


def _port(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        raise SettingsError(f"{where} must be a port number (0 for any free one), got {value!r}")
    return value


def _names(value: object, where: str) -> tuple[str, ...] | None:
    if value == "all":
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise SettingsError(f"{where} must be a list of composition names or 'all', got {value!r}")
    return tuple(value)


_CHECKS: Mapping[str, Callable[[object, str], Any]] = {
    "name": _text,
    "type": _text,
    "api_url": _url,
    "project_secret": _secret,
    "test_device": _flag,
    "heartbeat_interval": _seconds,
    "keepalive": _whole_seconds,
    "autostart": _names,
    "bus_port": _port,
    "auto_session": _flag,
}
