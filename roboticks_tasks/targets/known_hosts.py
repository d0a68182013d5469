"""The file of pinned host keys: one or several lines for each board, under its id."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from roboticks_tasks.errors import BoardError, ConfigError
from roboticks_tasks.profiles.values import Profile
from roboticks_tasks.targets.ssh_command import alias_of


class HostKey(NamedTuple):
    """A board's host key: its kind (ssh-ed25519 …), its SHA256 fingerprint, its line for a known_hosts file."""

    kind: str
    fingerprint: str
    line: str


def pinned(profile: Profile) -> list[HostKey]:
    """Return the keys that are pinned for the profile's board; BoardError when the file cannot be read."""
    return keys_in(read(profile), alias_of(profile))


def read(profile: Profile) -> str:
    """Return the text of the profile's file of pinned keys, "" when there is none; BoardError when unreadable."""
    path = Path(profile.target.known_hosts)
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise BoardError(
            f"the pinned host keys in {path} cannot be read: {error.strerror}",
            remedy="make it a file that this user can read, or set `known_hosts` in [target]",
        ) from error


def pin(profile: Profile, keys: Sequence[HostKey], *, replace: bool = False) -> None:
    """Write `keys` as those of the profile's board into its file of pinned keys; every other line stays.

    ConfigError when another key is pinned already and not `replace`, or when the file cannot be written.
    """
    path, alias = Path(profile.target.known_hosts), alias_of(profile)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(path.parent):
            text = read(profile)
            before = keys_in(text, alias)
            if {key.fingerprint for key in before} == {key.fingerprint for key in keys}:
                return
            if before and not replace:
                raise ConfigError(
                    f"board {alias} has another host key in {path}: {_listed(before)}, and now offers {_listed(keys)}",
                    remedy="find out why it has changed; replace it only when the board was installed anew",
                )
            kept = [line for line in text.splitlines() if not _is_of(line, alias)]
            new = [f"{alias} {key.line.partition(' ')[2]}" for key in keys]
            _write(path, "".join(f"{line}\n" for line in [*kept, *new]))
    except OSError as error:
        raise ConfigError(
            f"the host key cannot be pinned in {path}: {error.strerror}", remedy="set `known_hosts` in [target]"
        ) from error


def keys_in(text: str, alias: str) -> list[HostKey]:
    """Return the keys that known_hosts lines give `alias`; without fingerprints where ssh-keygen fails."""
    lines = [line for line in text.splitlines() if _is_of(line, alias)]
    return [HostKey(line.split()[1], mark, line) for line, mark in zip(lines, _fingerprints(lines), strict=True)]


def _is_of(line: str, alias: str) -> bool:
    words = line.split()
    return len(words) > 2 and not line.startswith(("#", "@")) and alias in words[0].lower().split(",")


def _fingerprints(lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    import sh

    try:
        keygen = sh.Command("ssh-keygen")
    except sh.CommandNotFound as error:
        raise ConfigError("ssh-keygen is not installed on this machine", remedy="install the ssh client") from error
    found = []
    for line in lines:
        key = f"{line.partition(' ')[2]}\n".encode("utf-8", "surrogateescape")
        said = keygen("-l", "-f", "-", _in=key, _ok_code=list(range(256)), _tty_out=False, _encoding="latin-1")
        words = str(said).split()
        found.append(words[1] if len(words) > 1 else "no fingerprint")
    return found


def _listed(keys: Iterable[HostKey]) -> str:
    return ", ".join(f"{key.kind} {key.fingerprint}" for key in keys)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Let two that enrol at the same time wait for each other; the lock is on the folder, so nothing is left."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, text: str) -> None:
    path = path.resolve()  # a link stays one
    descriptor, name = tempfile.mkstemp(prefix=".known_hosts.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
