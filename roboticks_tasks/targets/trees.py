"""Two folders, one here and one on a target: what each holds, what differs, and the script that makes them equal."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shlex
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from roboticks_tasks.errors import ConfigError
from roboticks_tasks.targets.staging import DIGEST

STAGING = ".incoming"
"""The folder in the destination where files wait, named by their checksums, until all have arrived."""

# Programs, files that are none, and sizes of what has arrived; no path that find(1) prints holds two slashes in a row.
# A link is a file of another content than any: what it leads to may lie outside.
LISTING = (
    DIGEST
    + r"""
cd "$1" 2>/dev/null || exit 0
find . -path ./.incoming -prune -o -name __pycache__ -prune -o -type f -perm -100 -exec $sums {} + || exit 1
echo //
find . -path ./.incoming -prune -o -name __pycache__ -prune -o -type f ! -perm -100 -exec $sums {} + \
    -o -type l -exec printf '%064d  %s\n' 0 {} \; || exit 1
[ -d .incoming ] || exit 0
echo //
find .incoming -type f -exec wc -c {} + 2>/dev/null
exit 0
"""
)

# $1 staging folder, $2 bytes of the archive. It is stored first, so that one that was cut off is told from a full disk.
UNPACK = r"""
command -v tar >/dev/null || { echo 'the target has no `tar`' >&2; exit 69; }
new=$1/new.$$
refuse() { rm -rf "$1" 2>/dev/null; printf '%s\n' "$2" | head -n 1 >&2; exit 73; }
words=$(mkdir -p "$new" 2>&1) || refuse "$1" "$words"
words=$( { cat >"$new/archive"; } 2>&1 ) || refuse "$1" "$words"
[ "$(wc -c <"$new/archive")" -eq "$2" ] || { rm -rf "$new"; echo "only a part of it arrived" >&2; exit 74; }
words=$(tar -xof "$new/archive" -C "$new" 2>&1) || refuse "$1" "$words"
rm -f "$new/archive"
words=$( { cd "$new" && mv -f ./* ..; } 2>&1 ) || refuse "$1" "$words"
rmdir "$new"
"""

# Whatever is missing or damaged is left for another look, before anything in the folder has been touched. Run a second
# time after it has done its work, it finds nothing to put into place and asks for that look as well, and so it does
# when somebody else, who is doing the same, has taken a file away.
COMMIT = (
    DIGEST
    + r"""
cd "$destination" || exit 73
refuse() {
    for each; do [ -e ".incoming/$each" ] || exit 66; done
    rm -rf .incoming 2>/dev/null
    exit 73
}
whole() {
    cd .incoming && $sums "$@" | {
        missing=$#
        while read -r sum name; do
            if [ "$sum" = "${name#\*}" ]; then missing=$((missing - 1)); else rm -f "${name#\*}"; fi
        done
        [ "$missing" = 0 ]
    }
} 2>/dev/null
place() {
    [ ! -d "./$2" ] || rm -rf "./$2"
    mv -f ".incoming/$1" "./$2" || refuse "$1"
}
double() { cp ".incoming/$1" ".incoming/$2" || refuse "$1"; }
allow() { (cd .incoming && chmod "$@") || { shift; refuse "$@"; }; }
prune() { rmdir -p -- "$@" 2>/dev/null; }
lacking=0
"""
)

HEADER = 1024
"""Bytes that an archive holds at most around each file."""

WORDS = 200
"""Names in one command: each may be 4 KiB long, and a command line of 2 MiB is usual."""

LINE = re.compile(r"(\\?)([0-9a-f]{64}) [ *]\./(.*)", re.DOTALL)
STAGED = re.compile(r"\s*([0-9]+) \.incoming/([0-9a-f]{64})")
ESCAPED = re.compile(r"\\(.)")


class Entry(NamedTuple):
    """A file here."""

    path: Path
    digest: str
    size: int
    mode: int


class Listing(NamedTuple):
    """What a target has: each file's checksum and whether it is a program, and how many bytes have arrived of what."""

    files: dict[str, tuple[str, bool]]
    arrived: dict[str, int]
    staging: bool


def read_tree(source: Path) -> dict[str, Entry]:
    """Return the files of a folder; links are followed, `__pycache__` is left out. ConfigError when one is unreadable.

    Files are read piece by piece: they may be larger than the memory.
    """
    entries = {}
    for path in _walk(source):
        with open_file(path) as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            status = os.fstat(stream.fileno())
        entries[path.relative_to(source).as_posix()] = Entry(path, digest, status.st_size, status.st_mode & 0o777)
    return entries


def open_file(path: Path) -> io.BufferedReader:
    """Open a file here; ConfigError when it cannot be read."""
    try:
        return path.open("rb")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def _walk(source: Path) -> Iterator[Path]:
    for name, folders, files in os.walk(source, followlinks=True):
        folder = Path(name)
        # A link to a folder that it lies in would be followed for ever.
        folders[:] = sorted(
            each
            for each in folders
            if each != "__pycache__"
            and (folder != source or each != STAGING)
            and not folder.resolve().is_relative_to((folder / each).resolve())
        )
        yield from (folder / each for each in sorted(files) if (folder / each).is_file())


def parse_listing(listing: bytes) -> Listing:
    """Read what LISTING printed; a line that begins no entry belongs to a name that holds a line break."""
    sections: list[list[str]] = [[]]
    for line in listing.decode("utf-8", "surrogateescape").split("\n")[:-1]:
        if line == "//":
            sections.append([])
        elif LINE.fullmatch(line) or len(sections) > 2 or not sections[-1]:
            sections[-1].append(line)
        else:
            sections[-1][-1] += f"\n{line}"
    programs, others, arrived = (*sections, [], [], [])[:3]
    return Listing(
        files={**_parse_sums(programs, is_program=True), **_parse_sums(others, is_program=False)},
        arrived={match[2]: int(match[1]) for line in arrived if (match := STAGED.fullmatch(line))},
        staging=len(sections) > 2,
    )


def _parse_sums(lines: list[str], *, is_program: bool) -> dict[str, tuple[str, bool]]:
    found = {}
    for match in filter(None, map(LINE.fullmatch, lines)):
        escaped, digest, name = match.groups()
        if escaped:  # so sha256sum marks a line in whose name it has escaped something; busybox does neither
            name = ESCAPED.sub(lambda each: {"n": "\n", "r": "\r"}.get(each[1], each[1]), name)
        found[name] = (digest, is_program)
    return found


def pack(entries: Iterable[Entry]) -> bytes:
    """Return an archive in which each file is named by its checksum."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for entry in entries:
            with open_file(entry.path) as stream:
                content = stream.read()
            info = tarfile.TarInfo(entry.digest)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return archive.getvalue()


def commit_script(destination: str, changed: Mapping[str, Entry], stale: Sequence[str]) -> str:
    """Return the script that puts staged files into their places and removes the `stale` ones and the staging folder.

    It is one text for all, so that a break leaves as little as possible half done; each file is renamed as a whole.
    """
    folders = {str(each) for name in changed for each in PurePosixPath(name).parents} - {"."}
    blocking = [
        name for name in stale if name in folders or any(str(each) in changed for each in PurePosixPath(name).parents)
    ]
    blocked = set(blocking)
    staged, twins = _staged_names(changed)
    modes = defaultdict(list)
    for name, entry in changed.items():
        modes[entry.mode].append(staged[name])
    lines = [f"destination={shlex.quote(destination)}", COMMIT]
    lines += _calls("(whole %s) || lacking=1", sorted({entry.digest for entry in changed.values()}))
    lines += ["[ $lacking = 0 ] || exit 66"]
    lines += [f"double {digest} {twin}" for twin, digest in twins.items()]
    for mode, names in modes.items():
        lines += _calls(f"allow {mode:o} %s", names)
    lines += _calls("rm -f -- %s || refuse", blocking)
    lines += _calls("mkdir -p -- %s || refuse", sorted(folders))
    lines += [f"place {staged[name]} {shlex.quote(name)}" for name in changed]
    lines += _calls("rm -f -- %s || refuse", [name for name in stale if name not in blocked])
    lines += _calls("prune %s", sorted({str(PurePosixPath(name).parent) for name in stale} - {"."}, reverse=True))
    return "\n".join([*lines, "rm -rf .incoming", ""])


def _staged_names(changed: Mapping[str, Entry]) -> tuple[dict[str, str], dict[str, str]]:
    """Return where each file waits, and of which content there must be copies: what is the same travels once."""
    left = Counter(entry.digest for entry in changed.values())
    staged, twins = {}, {}
    for name, entry in changed.items():
        left[entry.digest] -= 1
        staged[name] = entry.digest
        if left[entry.digest]:
            staged[name] = f"{entry.digest}.{left[entry.digest]}"
            twins[staged[name]] = entry.digest
    return staged, twins


def _calls(template: str, words: Sequence[str]) -> list[str]:
    """Return `template` for as many words at a time as a command line certainly holds."""
    return [template % shlex.join(words[start : start + WORDS]) for start in range(0, len(words), WORDS)]
