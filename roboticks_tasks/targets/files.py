"""Files of a target, over nothing but its shell: a board needs neither scp nor sftp."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from roboticks_tasks.targets.protocol import Target
from roboticks_tasks.targets.staging import ATTEMPTS, DIGEST, FIRST, Delivery
from roboticks_tasks.targets.trees import (
    HEADER,
    LISTING,
    STAGING,
    UNPACK,
    Entry,
    commit_script,
    open_file,
    pack,
    parse_listing,
    read_tree,
)

# Both: $1 path, $2 checksum, $3 bytes, $4 mode. Without a program for checksums what is small is only counted.
PUT = f"""
[ ! -d "$1" ] || {{ echo "it is a folder" >&2; exit 73; }}
mkdir -p "$(dirname "$1")" || exit 73
new=$1.incoming.$$
trap 'rm -f "$new"' EXIT
cat >"$new" || exit 73
[ "$(wc -c <"$new")" -eq "$3" ] || {{ echo "only a part of it arrived" >&2; exit 74; }}
sum=$({{ {DIGEST}
digest "$new"; }} 2>/dev/null)
[ -z "$sum" ] || [ "$sum" = "$2" ] || {{ echo "it was damaged on its way" >&2; exit 74; }}
chmod "$4" "$new" && mv -f "$new" "$1" || exit 73
rm -f "$1".incoming.*
"""

# Ends with 0 when the file is in its place, else prints how many bytes of it have arrived in $5.
FINISH = (
    DIGEST
    + r"""
[ ! -d "$1" ] || { echo "it is a folder" >&2; exit 73; }
part=$5 size=0
[ ! -f "$part" ] || size=$(wc -c <"$part")
if [ "$size" -eq "$3" ] && [ "$(digest "$part")" = "$2" ]; then
    chmod "$4" "$part" && mv -f "$part" "$1" || { rm -f "$part" 2>/dev/null; exit 73; }
elif [ -f "$1" ] && [ "$(wc -c <"$1")" -eq "$3" ] && [ "$(digest "$1")" = "$2" ]; then
    chmod "$4" "$1" || exit 73
else
    [ "$size" -lt "$3" ] || size=0
    for each in "$1".incoming.*; do [ "$each" = "$part" ] || rm -f "$each"; done
    echo "$size"
    exit 66
fi
rm -f "$1".incoming.*
"""
)


class Synced(NamedTuple):
    """What a synchronisation did, in numbers of files."""

    sent: int
    removed: int
    unchanged: int


def put(target: Target, content: bytes | Path, path: str, *, mode: int = 0o644, timeout: float = 3600) -> None:
    """Write `content`, or the file that it names, to `path` on the target; whoever reads there sees whole files.

    What is small takes one command. What is large travels in portions, unless the target has it already; after a
    break whoever calls this again sends only what is missing. TargetError with the target's own words, ConfigError
    when the file cannot be read; `timeout` is in seconds.
    """
    delivery = Delivery(target, path, timeout)
    with io.BytesIO(content) if isinstance(content, bytes) else open_file(content) as stream:
        _put(delivery, stream, mode)


def _put(delivery: Delivery, stream: io.BufferedReader | io.BytesIO, mode: int) -> None:
    path = delivery.path
    for _ in range(ATTEMPTS):
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = stream.seek(0, io.SEEK_END)
        part = f"{path}.incoming.{digest:.16}"
        words = (path, digest, str(size), f"{mode:o}", part)
        if size <= FIRST:
            stream.seek(0)
            delivery.run(PUT, *words, stdin=stream.read())
            return
        found = delivery.run(FINISH, *words)
        if found.ok:
            return
        delivery.send_file(stream, part, arrived=int(found.text), staging=part)
        if delivery.run(FINISH, *words).ok:
            return
    raise delivery.failure(f"it did not arrive whole in {ATTEMPTS} attempts")


def get(target: Target, path: str) -> bytes | None:
    """Return the content of `path` on the target, None when there is no such file."""
    done = target.run(["cat", path], timeout=300, repeatable=True)
    return done.stdout if done.ok else None


def exists(target: Target, path: str, *, kind: str = "e") -> bool:
    """Tell whether `path` exists (`kind` as in test(1): e anything, f file, d folder, x executable)."""
    return target.run(["test", f"-{kind}", path], repeatable=True).ok


def sync_tree(target: Target, source: Path, destination: str, *, timeout: float = 300) -> Synced:
    """Make the folder `destination` on the target hold the files of `source`: only what differs travels.

    Files are compared by SHA-256 and by whether they can be executed; links are followed; `__pycache__` stays behind.
    Nothing in the folder is touched before everything has arrived whole in `<destination>/.incoming`, where it also
    waits for the next attempt when the link breaks. TargetError with the target's own words, ConfigError when a file
    here cannot be read; `timeout` is in seconds, for all of it.
    """
    delivery = Delivery(target, destination, timeout)
    synced = None
    for _ in range(ATTEMPTS):
        ours = read_tree(source)
        theirs = parse_listing(delivery.run(LISTING, destination).stdout)
        changed = {
            name: entry
            for name, entry in ours.items()
            if theirs.files.get(name) != (entry.digest, bool(entry.mode & 0o100))
        }
        stale = [name for name in theirs.files if name not in ours]
        synced = synced or Synced(sent=len(changed), removed=len(stale), unchanged=len(ours) - len(changed))
        if not (changed or stale or theirs.staging):
            return synced
        wanted = {each.digest: each for each in changed.values() if theirs.arrived.get(each.digest) != each.size}
        _send(delivery, wanted.values(), theirs.arrived)
        if delivery.run_long(commit_script(destination, changed, stale)).ok:
            return synced
    raise delivery.failure(f"it did not arrive whole in {ATTEMPTS} attempts")


def _send(delivery: Delivery, wanted: Iterable[Entry], arrived: dict[str, int]) -> None:
    """Bring files to the staging folder: the small ones together, the large ones each in portions."""
    staging = f"{delivery.path}/{STAGING}"
    entries = sorted(wanted, key=lambda entry: entry.size)
    while entries:
        together, room = 0, delivery.portion
        while together < len(entries) and (room := room - entries[together].size - HEADER) >= 0:
            together += 1
        if together:
            archive = pack(entries[:together])
            delivery.send(UNPACK, staging, str(len(archive)), stdin=archive)
            del entries[:together]
            continue
        entry = entries.pop(0)
        with open_file(entry.path) as stream:
            file = f"{staging}/{entry.digest}"
            delivery.send_file(stream, file, arrived=arrived.get(entry.digest, 0), staging=staging)
