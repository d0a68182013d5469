"""What runs on the board around a command: marks at its begin and end, and the end of what nobody waits for."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from typing import NamedTuple

LONGEST_COMMAND = 100_000
"""Bytes of a command that still fit into one argument (the kernel's limit is 128 KiB); a longer one goes by stdin."""

# `end PID START` kills the process that started then, if it still runs: its group and session where it leads them (as
# it does under OpenSSH), else the descendants that have not left its session. Zombies are nobody's business.
END = r"""
end() {
    leader=$1
    read -r line <"/proc/$leader/stat" || return
    session=$2
    set -- ${line##*) }
    [ "${20}" = "$session" ] || return
    session=$4 victims=" $leader " before=
    while [ "$victims" != "$before" ]; do
        before=$victims
        for stat in /proc/[0-9]*/stat; do
            read -r line <"$stat" || continue
            set -- "${line%% *}" ${line##*) }
            [ "$5" = "$session" ] && [ "$2" != Z ] || continue
            case $victims in *" $1 "*) continue ;; esac
            if [ "$session" = "$leader" ]; then
                victims="$victims$1 "
            else
                case $victims in *" $3 "*) victims="$victims$1 " ;; esac
            fi
        done
    done
    [ "$session" = "$leader" ] && kill -s KILL -- "-$leader"
    kill -s KILL $victims
} 2>/dev/null
"""

END_ONE = END + 'end "$1" "$2"\nexit 0\n'

# The connection's own session reads until nobody holds its other end any more: our process has ended, or the
# connection. The commands that still run on it are its siblings: they have nobody who waits for them.
HOLD = (
    END
    + r"""
echo "$1"
cat >/dev/null
[ "$PPID" -gt 1 ] || exit 0
for sibling in /proc/[0-9]*/stat; do
    read -r line <"$sibling" || continue
    pid=${line%% *}
    set -- ${line##*) }
    [ "$2" != "$PPID" ] || [ "$pid" = "$$" ] || end "$pid" "${20}"
done 2>/dev/null
"""
)


class Leader(NamedTuple):
    """The shell that runs a command on the board: its pid and when it started, in the board's clock ticks."""

    pid: str
    started: str


class Heard(NamedTuple):
    """What came of a command: its streams without our marks; None where the begin or the end has not come."""

    leader: Leader | None
    exit_code: int | None
    stdout: bytes
    stderr: bytes


def hold(mark: str) -> str:
    """Return the command of a connection's own session; it prints `mark` once it is there."""
    return "exec " + shlex.join(["sh", "-c", HOLD, "sh", mark])


def framed(argv: Sequence[str], mark: str) -> bytes:
    """Return the command line for the board's login shell that runs `argv` and marks where it begins and ends.

    The marks cut away what a shell's start files print, tell whose process it is, and tell the command's own exit
    code from ssh's. `exec` in a subshell: programs, never the shell's own commands or keywords.
    """
    begin = f'read -r s </proc/$$/stat; echo {mark}; echo "{mark} $s" >&2'
    return os.fsencode(f"{begin}; (exec {shlex.join(argv)}); echo {mark} $? >&2")


def by_stdin(command: bytes) -> bytes:
    """Return a command that reads `command` from stdin, byte by byte, and leaves the rest there for it."""
    return b'eval "$(dd bs=1 count=%d 2>/dev/null)"' % len(command)


def heard(stdout: bytes, stderr: bytes, mark: str) -> Heard:
    """Take the marks out of what a command has said so far."""
    word = mark.encode()
    begin = re.search(word + rb" (?P<stat>\d+ \(.*\) .*|)\n", stderr)
    leader, code = None, None
    if begin is not None:
        stat = begin["stat"].decode("utf-8", "replace")
        fields = stat.rpartition(")")[2].split()
        leader = Leader(stat.partition(" ")[0], fields[19]) if len(fields) > 19 else Leader("0", "0")
        stderr = stderr[begin.end() :]
    ends = list(re.finditer(word + rb" (\d+)\n", stderr))
    if begin is not None and ends:
        code = int(ends[-1][1])
        stderr = stderr[: ends[-1].start()] + stderr[ends[-1].end() :]
    return Heard(leader, code, stdout.partition(word + b"\n")[2], stderr)
