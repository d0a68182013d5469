"""What a run knows that nobody may read: which values are secret, by where they come from and by what they are called.

A value counts as secret when its name says so (`redaction.is_secret`), wherever it stands: in the environment, in a
profile's environment for the device manager, behind an option of a command; so does a password in a URL. The name of
a file that is there is none. What the profile and the platform's own variables say is taken at its word; of the rest
of the environment, where CI has dozens of names that end in KEY, a value has to look like a secret: `ORDINARY`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import msgspec

from roboticks_tasks.profiles import Profile
from roboticks_tasks.redaction import OURS, Redactor, is_secret

API_KEY_FILE = "api-key"
SECRET_FILE = "project-secret"  # noqa: S105 - a file's name
"""In the local platform's folder; made at its first start."""

ORDINARY = re.compile(r".{,7}|[A-Za-z]{,11}|[0-9.]{,11}", re.DOTALL)
"""What is short, a word or a number: "production" is no secret, whatever the variable is called, and in every log."""

IN_URL = re.compile(r"[a-z][a-z0-9+.-]*://(?:([^\s/@:]*):)?([^\s/@]+)@", re.IGNORECASE)
"""User and password of a URL; a token stands for both."""

IN_QUERY = re.compile(r"[?&]([^\s=&#]+)=([^\s&#]+)")

ASSIGNED = re.compile(r"-*([\w.-]+)[=:](.+)", re.DOTALL)
"""An option with its value in one word, or an assignment."""

USERS = ("-u", "--user", "--proxy-user")
"""curl's options for USER:PASSWORD."""


def redactor_of(profile: Profile | None = None, environ: Mapping[str, str] | None = None) -> Redactor:
    """Return what redacts every secret of a run of `profile`, those included that the local platform has yet to make.

    `environ` is the process's environment unless given. Without a profile only what stands there is known.
    """
    files: list[Path] = []
    if profile is not None and profile.backend == "local":
        files = [Path(profile.local_platform.directory).absolute() / name for name in (SECRET_FILE, API_KEY_FILE)]
    return Redactor(secrets_of(profile, os.environ if environ is None else environ), files=files)


def secrets_of(profile: Profile | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return every secret in the environment and in the profile; too short ones and doubles may be among them."""
    ours = {name: value for name, value in environ.items() if name.startswith(OURS)}
    others = {name: value for name, value in environ.items() if name not in ours}
    found = {*_in_mapping(ours), *(each for each in _in_mapping(others) if not ORDINARY.fullmatch(each))}
    if profile is not None:
        found |= {*_in_mapping(profile.device_manager.environment), *_in_commands(profile)}
        source = profile.device_manager.source
        found |= {*_in_text(profile.backend), *_in_text((source and source.url) or "")}
        found.add(environ.get(profile.target.login.password_variable or "", ""))
    return tuple(sorted(found - {""}))


def _in_mapping(values: Mapping[str, str]) -> Iterator[str]:
    for name, value in values.items():
        if is_secret(name) and not _is_path(value):
            yield value
        yield from _in_text(value)


def _in_text(text: str) -> Iterator[str]:
    """Yield the passwords of URLs in `text`, as they stand and as they are meant, and signatures in their queries."""
    if "://" not in text:
        return
    for found in IN_URL.finditer(text):
        if found[1] is not None or found[0].startswith("http"):  # ssh://user@host names somebody, and no secret
            yield from (found[2], unquote(found[2]))
    for name, value in IN_QUERY.findall(text):
        if is_secret(name):
            yield from (value, unquote(value))


def _in_commands(profile: Profile) -> Iterator[str]:
    manager = profile.device_manager
    commands = [manager.arguments, manager.flash, _words(profile.tests.command)]
    commands += msgspec.structs.astuple(manager.control)
    for board in profile.boards:
        commands.append(board.identity.command if board.identity else None)
        if board.power is not None:
            commands += (board.power.on, board.power.off, board.power.cycle, board.power.state)
    for command in commands:
        yield from _in_command(command or ())


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # a quotation that does not end
        return line.split()


def _in_command(argv: Sequence[str]) -> Iterator[str]:
    """Yield what stands behind an option that says that it takes a secret, in a shell's script and a header, too."""
    before = ""
    for word in argv:
        assigned = ASSIGNED.fullmatch(word)
        if assigned and is_secret(assigned[1]):
            yield from (assigned[2], assigned[2].rpartition(" ")[2])
        elif before.startswith("-") and is_secret(before) and not _is_path(word):
            yield word
        elif before in USERS and ":" in word:
            yield word.partition(":")[2]
        elif (words := _words(word)) != [word]:
            yield from _in_command(words)
        yield from _in_text(word)
        before = word


def _is_path(value: str) -> bool:
    """Tell whether `value` names a file: what stands in it may be secret, its name is not."""
    try:
        return "/" in value and os.path.lexists(value)
    except (OSError, ValueError):
        return False
