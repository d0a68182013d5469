"""Files of a target, over nothing but its shell: a board needs neither scp nor sftp."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shlex
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from roboticks_tasks.errors import TargetError
from roboticks_tasks.targets.protocol import Target

PUT = """
set -e
mkdir -p "$(dirname "$1")"
trap 'rm -f "$1.new"' EXIT
cat >"$1.new"
[ "$(wc -c <"$1.new")" -eq "$3" ] || { echo "only a part of it arrived" >&2; exit 74; }
chmod "$2" "$1.new"
mv -f "$1.new" "$1"
"""

# Each file is renamed into its place once all have arrived: whoever reads the folder meanwhile sees whole files.
UNPACK = """
set -e
mkdir -p "$1"
incoming=$(mktemp -d "$1/.incoming.XXXXXX")
trap 'rm -rf "$incoming"' EXIT
tar -xof - -C "$incoming"
cd "$incoming"
find . -type f -exec sh -c '
    for file; do
        [ ! -d "$0/$file" ] || rm -rf "$0/$file"
        mkdir -p "$0/${file%/*}" && mv -f "$file" "$0/$file" || exit 1
    done' "$1" {} +
"""

REMOVE = """
cd "$destination" && rm -f -- "$@" || exit 1
for file; do case $file in */*) rmdir -p -- "${file%/*}" 2>/dev/null ;; esac; done
exit 0
"""

# Programs first, then an empty line, then the files that are none: a bit that differs counts as a difference.
LISTING = """
cd "$1" 2>/dev/null || exit 0
find . -name '.incoming.*' -prune -o -type f -perm -100 -exec sha256sum {} +
echo
find . -name '.incoming.*' -prune -o -type f ! -perm -100 -exec sha256sum {} +
"""

ESCAPED = re.compile(r"\\(.)")


class Synced(NamedTuple):
    """What a synchronisation did, in numbers of files."""

    sent: int
    removed: int
    unchanged: int


def put(target: Target, content: bytes, path: str, *, mode: int = 0o644) -> None:
    """Write `content` to `path` on the target, atomically; TargetError with the target's own words."""
    done = target.run(["sh", "-c", PUT, "sh", path, f"{mode:o}", str(len(content))], stdin=content, timeout=300)
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

    Files are compared by SHA-256 and by whether they can be executed; links are followed; `__pycache__` stays behind.
    `timeout` is in seconds, for each of at most three commands.
    """
    ours = {path.relative_to(source).as_posix(): path for path in _files(source)}
    listing = target.run(["sh", "-c", LISTING, "sh", destination], timeout=timeout)
    if not listing.ok:
        raise TargetError(f"{destination} could not be compared: {listing.last_words}")
    theirs = _parse_listing(listing.stdout)
    changed = [name for name, path in ours.items() if theirs.get(name) != (_sha256(path), os.access(path, os.X_OK))]
    stale = [name for name in theirs if name not in ours and "__pycache__/" not in name]
    if stale:  # first, because a file may have become a folder
        script = f"destination={shlex.quote(destination)}\nset -- {shlex.join(stale)}\n{REMOVE}"
        done = target.run(["sh", "-s"], stdin=script.encode("utf-8", "surrogateescape"), timeout=timeout)
        if not done.ok:
            raise TargetError(f"{destination} could not be cleaned: {done.last_words}")
    if changed:
        done = target.run(["sh", "-c", UNPACK, "sh", destination], stdin=_pack(ours, changed), timeout=timeout)
        if not done.ok:
            raise TargetError(f"{destination} could not be written: {done.last_words}")
    return Synced(sent=len(changed), removed=len(stale), unchanged=len(ours) - len(changed))


def _files(source: Path) -> Iterator[Path]:
    for name, folders, files in os.walk(source, followlinks=True):
        folder = Path(name)
        # A link to a folder that it lies in would be followed for ever.
        folders[:] = sorted(
            each
            for each in folders
            if each != "__pycache__" and not folder.resolve().is_relative_to((folder / each).resolve())
        )
        yield from (folder / each for each in sorted(files) if (folder / each).is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _parse_listing(listing: bytes) -> dict[str, tuple[str, bool]]:
    """Return each file's digest, and whether it is a program."""
    found = {}
    programs = True
    for line in listing.decode("utf-8", "surrogateescape").split("\n")[:-1]:
        if not line:
            programs = False
            continue
        digest, _, name = line.removeprefix("\\").partition(" ")
        if line.startswith("\\"):  # sha256sum marks a line in whose name it has escaped something
            name = ESCAPED.sub(lambda match: {"n": "\n", "r": "\r"}.get(match[1], match[1]), name)
        found[name[1:].removeprefix("./")] = (digest, programs)  # the first character tells text from binary
    return found


def _pack(files: dict[str, Path], names: list[str]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT, dereference=True) as tar:
        for name in names:
            tar.add(files[name], arcname=name)
    return archive.getvalue()
