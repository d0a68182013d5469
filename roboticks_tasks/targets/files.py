"""Files of a target, over nothing but its shell: a board needs neither scp nor sftp."""

from __future__ import annotations

import hashlib
import io
import shlex
import tarfile
from pathlib import Path
from typing import NamedTuple

from roboticks_tasks.errors import TargetError
from roboticks_tasks.targets.protocol import Target

PUT = """
set -e
mkdir -p "$(dirname "$1")"
trap 'rm -f "$1.new"' EXIT
cat >"$1.new"
chmod "$2" "$1.new"
mv -f "$1.new" "$1"
"""

# Each file is renamed into its place once all have arrived: whoever reads the folder meanwhile sees whole files.
UNPACK = """
set -e
mkdir -p "$1"
incoming=$(mktemp -d "$1/.incoming.XXXXXX")
trap 'rm -rf "$incoming"' EXIT
tar -xf - -C "$incoming"
cd "$incoming"
find . -type f -exec sh -c 'for file; do mkdir -p "$0/${file%/*}" && mv -f "$file" "$0/$file" || exit 1; done' "$1" {} +
"""

LISTING = """
cd "$1" 2>/dev/null || exit 0
find . -name '.incoming.*' -prune -o -type f -exec sha256sum {} +
"""


class Synced(NamedTuple):
    """What a synchronisation did, in numbers of files."""

    sent: int
    removed: int
    unchanged: int


def put(target: Target, content: bytes, path: str, *, mode: int = 0o644) -> None:
    """Write `content` to `path` on the target, atomically; TargetError with the target's own words."""
    done = target.run(["sh", "-c", PUT, "sh", path, f"{mode:o}"], stdin=content, timeout=300)
    if not done.ok:
        raise TargetError(f"{path} could not be written: {done.last_words}")


def get(target: Target, path: str) -> bytes | None:
    """Return the content of `path` on the target, None when there is no such file."""
    done = target.run(["cat", path], timeout=300)
    return done.stdout if done.ok else None


def exists(target: Target, path: str, *, kind: str = "e") -> bool:
    """Tell whether `path` exists (`kind` as in test(1): e anything, f file, d folder, x executable)."""
    return target.run(["test", f"-{kind}", path]).ok


def sync_tree(target: Target, source: Path, destination: str, *, timeout: float = 300) -> Synced:
    """Make the folder `destination` on the target hold the files of `source`: only what differs travels.

    Files are compared by SHA-256; links are followed; `__pycache__` stays behind. `timeout` is in seconds, for each of
    at most three commands.
    """
    ours = {path.relative_to(source).as_posix(): path for path in sorted(source.rglob("*")) if _belongs(path)}
    listing = target.run(["sh", "-c", LISTING, "sh", destination], timeout=timeout)
    if not listing.ok:
        raise TargetError(f"{destination} could not be compared: {listing.last_words}")
    theirs = _parse_listing(listing.stdout)
    changed = [name for name, path in ours.items() if theirs.get(name) != _sha256(path)]
    stale = [name for name in theirs if name not in ours and "__pycache__/" not in name]
    if changed:
        done = target.run(["sh", "-c", UNPACK, "sh", destination], stdin=_pack(ours, changed), timeout=timeout)
        if not done.ok:
            raise TargetError(f"{destination} could not be written: {done.last_words}")
    if stale:
        script = f"cd {shlex.quote(destination)} && rm -f -- {shlex.join(stale)}\n"
        target.run(["sh", "-s"], stdin=script.encode(), timeout=timeout)
    return Synced(sent=len(changed), removed=len(stale), unchanged=len(ours) - len(changed))


def _belongs(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _parse_listing(listing: bytes) -> dict[str, str]:
    lines = listing.decode("utf-8", "surrogateescape").splitlines()
    pairs = (line.split(None, 1) for line in lines)
    return {name.lstrip("*").removeprefix("./"): digest for digest, name in pairs}


def _pack(files: dict[str, Path], names: list[str]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
        for name in names:
            tar.add(files[name], arcname=name)
    return archive.getvalue()
