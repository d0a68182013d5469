"""The file of pinned host keys: one or several lines for each board, under its id."""

from __future__ import annotations

import base64
import fcntl
import hmac
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from roboticks_tasks.errors import BoardError, ConfigError
from roboticks_tasks.profiles.values import Profile
from roboticks_tasks.targets.ssh.invocation import alias_of


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
        with _exclusive(path.resolve().parent):
            text = read(profile)
            before = keys_in(text, alias)
            _refuse_revoked(text, keys, path)
            if {key.fingerprint for key in before} == {key.fingerprint for key in keys}:
                return
            if before and not replace:
                raise ConfigError(
                    f"board {alias} has another host key in {path}: {_listed(before)}, and now offers {_listed(keys)}",
                    remedy="find out why it has changed; replace it only when the board was installed anew",
                )
            kept = [rest for line in _lines(text) if (rest := _without(line, alias)) is not None]
            new = [f"{alias} {key.line.split(None, 1)[1]}" for key in keys]
            _write(path, "".join(f"{line}\n" for line in [*kept, *new]))
    except OSError as error:
        raise ConfigError(
            f"the host key cannot be pinned in {path}: {error.strerror}", remedy="set `known_hosts` in [target]"
        ) from error


def keys_in(text: str, alias: str) -> list[HostKey]:
    """Return the keys that known_hosts lines give `alias`; without fingerprints where ssh-keygen fails."""
    lines = [line for line in _lines(text) if _is_of(line, alias)]
    return [HostKey(line.split()[1], mark, line) for line, mark in zip(lines, _fingerprints(lines), strict=True)]


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []  # as ssh does: what else looks like an end is none


def _is_of(line: str, alias: str) -> bool:
    words = line.split()
    if len(words) < 3 or words[0].startswith(("#", "@")):
        return False
    return any(_is_name(name, alias) for name in words[0].split(","))


def _is_name(name: str, alias: str) -> bool:
    """Tell whether a name of a line means `alias`; a hashed one is |1|salt|HMAC-SHA1 of the name."""
    if not name.startswith("|1|"):
        return name.lower() == alias
    try:
        salt, digest = (base64.b64decode(part) for part in name.split("|")[2:])
    except ValueError:
        return False
    return hmac.compare_digest(hmac.digest(salt, alias.encode(), "sha1"), digest)


def _without(line: str, alias: str) -> str | None:
    """Return a line as it is for the other boards that it names, None when there are none."""
    if not _is_of(line, alias):
        return line
    names, rest = line.split(None, 1)
    others = [name for name in names.split(",") if not _is_name(name, alias)]
    return f"{','.join(others)} {rest}" if others else None


def _refuse_revoked(text: str, keys: Sequence[HostKey], path: Path) -> None:
    revoked = {line.split()[3] for line in _lines(text) if line.startswith("@revoked ") and len(line.split()) > 3}
    for key in keys:
        if key.line.split()[2] in revoked:
            raise ConfigError(
                f"{key.kind} {key.fingerprint} is marked as @revoked in {path}", remedy="give the board another key"
            )


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
        key = f"{line.split(None, 1)[1]}\n".encode("utf-8", "surrogateescape")
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
        with suppress(OSError):  # NFS locks no folders
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
