"""Bring content to a target over a link that may break at any moment: in portions, resumable, checked at the end.

Each command may be run twice, because it writes what it brings to a place that the content itself names. What has
arrived stays there when the link breaks, and whoever tries again, also another process, sends only the rest.
"""

from __future__ import annotations

import time
from typing import BinaryIO

from roboticks_tasks.errors import TargetError
from roboticks_tasks.targets.protocol import Completed, Target
from roboticks_tasks.waiting import Deadline

BLOCK = 65_536
"""Bytes; every portion but the last one of a file is a multiple of it, because dd(1) counts in blocks."""

FIRST, MOST = 4 * BLOCK, 64 * BLOCK
"""Bytes of the first portion and of the largest: what a break costs, and what is held in memory."""

QUICK, SLOW = 0.5, 5.0
"""Seconds; a portion that took less is followed by a larger one, one that took more by a smaller one."""

ATTEMPTS = 3
"""How often something is sent when it is damaged on its way, or changes while it is sent."""

PATIENCE = 300.0
"""Seconds that one command may take at most."""

UNAVAILABLE, LACKING, REFUSED, CUT_OFF = 69, 66, 73, 74
"""Exit codes of our scripts: a program is missing; not all is there; it cannot be written; only a part arrived."""

# `digest FILE` prints a checksum, `$sums FILE…` lines of checksum and name.
DIGEST = r"""
for sums in sha256sum 'busybox sha256sum' 'openssl dgst -sha256 -r' ''; do
    [ -z "$sums" ] || ! $sums </dev/null >/dev/null 2>&1 || break
done
[ -n "$sums" ] || { echo 'the target has no `sha256sum`' >&2; exit 69; }
digest() { set -- $($sums <"$1"); echo "$1"; }
"""

# $1 file, $2 bytes before this portion, $3 bytes after it, $4 what to remove when there is no room for it. An earlier
# run of the same command may still be hanging in a broken link: both write the same bytes to the same place.
RECEIVE = r"""
mkdir -p "$(dirname "$1")" || exit 73
size=0
[ ! -f "$1" ] || size=$(wc -c <"$1")
[ "$size" -ge "$2" ] || exit 66
words=$(dd of="$1" bs=65536 seek=$(($2 / 65536)) 2>&1) || {
    rm -rf "$4" 2>/dev/null
    printf '%s\n' "$words" | grep -v -e ' records ' -e ' copied' >&2
    exit 73
}
[ "$(wc -c <"$1")" -eq "$3" ] || { echo "only a part of it arrived" >&2; exit 74; }
"""


class Delivery:
    """One thing to bring to `path` on a target within `timeout` seconds."""

    def __init__(self, target: Target, path: str, timeout: float) -> None:
        self.path = path
        self.portion = FIRST
        self._target = target
        self._deadline = Deadline(timeout)

    def run(self, script: str, *words: str, stdin: bytes = b"") -> Completed:
        """Run a script that may be run twice; TargetError unless it ends with 0 or LACKING."""
        return self._run(["sh", "-c", script, "sh", *words], stdin)

    def run_long(self, script: str) -> Completed:
        """Run a script that may be too long for an argument; TargetError unless it ends with 0 or LACKING."""
        return self._run(["sh", "-s"], script.encode("utf-8", "surrogateescape"))

    def send(self, script: str, *words: str, stdin: bytes) -> Completed:
        """Run a script that brings a portion, and learn from the time it takes how large the next one should be."""
        start = time.monotonic()
        done = self.run(script, *words, stdin=stdin)
        took = time.monotonic() - start
        if took < QUICK:
            self.portion = min(MOST, self.portion * 2)
        elif took > SLOW:
            self.portion = max(BLOCK, self.portion // 2)
        return done

    def send_file(self, content: BinaryIO, file: str, *, arrived: int, staging: str) -> None:
        """Write what is missing of `content` to `file`, of which `arrived` bytes are there.

        `staging` is removed when there is no room: a board whose disk we have filled may do nothing else any more.
        """
        offset = arrived // BLOCK * BLOCK
        content.seek(offset)
        while data := content.read(self.portion):
            after = offset + len(data)
            if not self.send(RECEIVE, file, str(offset), str(after), staging, stdin=data).ok:
                return  # somebody has removed what was there; whoever called looks again
            offset = after

    def failure(self, reason: str, remedy: str = "") -> TargetError:
        """Return the error that says what could not be done, and why."""
        return TargetError(f"{self.path} could not be written: {reason}", remedy=remedy)

    def _run(self, argv: list[str], stdin: bytes) -> Completed:
        remaining = self._deadline.remaining
        if not remaining:
            raise self.failure(f"{self._deadline.seconds:g} s were not enough", "try again: only the rest is sent")
        try:
            done = self._target.run(argv, stdin=stdin, timeout=min(PATIENCE, remaining), repeatable=True)
        except TargetError as error:
            raise self.failure(error.args[0], error.remedy) from error
        if done.exit_code == UNAVAILABLE:
            raise self.failure(done.last_words, "install it, or a busybox that has it, on the target")
        if not done.ok and done.exit_code != LACKING:
            raise self.failure(done.last_words)
        return done
