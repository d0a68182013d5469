"""Processes that outlive the command that started them: start, recognise, stop, each in one round trip."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from roboticks_tasks.errors import TargetError
from roboticks_tasks.targets.protocol import Completed, Target

PID = re.compile("[1-9][0-9]{0,9}")

NO_SETSID = 69
"""Exit code of the start script when the target has no `setsid` (EX_UNAVAILABLE)."""

# `identity PID` prints start time and boot of a process that runs, and keeps it in $identity; it fails for a dead one
# or a zombie. The name of a process may hold spaces and parentheses, so everything up to the last ") " goes; the start
# time is then field 20. In some containers a boot has no name.
IDENTITY = r"""
identity() {
    identity='' boot=none
    read -r boot </proc/sys/kernel/random/boot_id
    read -r stat <"/proc/$1/stat" || return 1
    set -- ${stat##*) }
    [ "$1" != Z ] && [ "$1" != X ] && identity=${20}-$boot && printf '%s' "$identity"
} 2>/dev/null
"""

HIDDEN = 71
"""Exit code of a script that cannot see the process it is asked about (EX_OSERR)."""

# Where /proc is mounted with `hidepid`, a process that may not be traced (one with capabilities, say) looks gone to its
# own user, and could go on for ever. Whose number has gone to another user's process is not meant: there `kill` fails.
SEE = r"""
hidden() {
    case $1 in '' | 0* | *[!0-9]*) return 1 ;; esac
    [ ! -e "/proc/$1/stat" ] && kill -0 "$1"
} 2>/dev/null
see() {
    hidden "$1" || return 0
    echo "process $1 runs, but cannot be seen in /proc (mounted with hidepid)" >&2
    exit 71
}
"""

# The inner shell becomes the program: same pid, same start time. It writes the pid file before, so that whoever
# starts it may die at any moment and the process can still be found; closing fd 3 tells the outer shell to go on.
START = (
    IDENTITY
    + r"""
command -v setsid >/dev/null || exit 69
rm -f "$pid_file" "$stale"
mkdir -p "$(dirname "$pid_file")" "$(dirname "$log")" "$directory" && cd "$directory" || exit 73
words=$( { umask 077; true >"$log"; } 2>&1 ) || { echo "$log cannot be written: ${words##*: }" >&2; exit 73; }
export IDENTITY_FUNCTION="$function" PID_FILE="$pid_file"
reply=$(setsid sh -c '
    eval "$IDENTITY_FUNCTION"
    { printf "%s %s\n" "$$" "$(identity $$)" >"$PID_FILE.new" && mv "$PID_FILE.new" "$PID_FILE"; } 2>&3 || exit 73
    cat "$PID_FILE" >&3
    unset IDENTITY_FUNCTION PID_FILE
    exec 3>&-
    exec "$@"' sh "$@" 3>&1 >"$log" 2>&1 </dev/null &)
case $reply in
    [0-9]*) echo "$reply" ;;
    *) echo "$pid_file cannot be written: ${reply:-$(tail -n 1 "$log")}" >&2; exit 73 ;;
esac
"""
)

STOP = (
    IDENTITY
    + SEE
    + r"""
same() { identity "$pid" >/dev/null && [ "$identity" = "$expected" ]; }
kill_group() {
    # As long as a member of the group lives, or nobody has reaped its dead leader, no new process gets its number: a
    # process that has it and started at another time is a stranger.
    boot=none
    read -r boot </proc/sys/kernel/random/boot_id
    case "$expected" in *-"$boot") ;; *) return ;; esac
    if read -r stat <"/proc/$pid/stat"; then
        set -- ${stat##*) }
        [ "${20}" = "${expected%%-*}" ] || return
    fi
    kill -s KILL -- "-$pid"  # dash understands a group's number only behind `-s`
} 2>/dev/null
same || { see "$pid"; kill_group; echo gone; exit 0; }
kill -TERM "$pid"
while [ "$ticks" -gt 0 ] && same; do sleep 0.02 2>/dev/null || sleep 1; ticks=$((ticks - 1)); done
outcome=stopped
same && outcome=killed
kill_group
ticks=50
while [ "$ticks" -gt 0 ] && same; do sleep 0.02 2>/dev/null || sleep 1; ticks=$((ticks - 1)); done
same && outcome=alive
echo "$outcome"
"""
)


class Detached(NamedTuple):
    """A detached process: its pid, and what tells it from a later process with that pid."""

    pid: int
    identity: str


def spawn_detached(
    target: Target,
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: str,
    pid_file: str,
    directory: str = ".",
    stale: str = "",
) -> Detached:
    """Start `argv` in a session of its own, output to `log` (emptied first), and return its pid and identity.

    What an earlier one has left is removed before: `pid_file` and the file `stale`. The environment travels on standard
    input, never in an argument list, because it holds secrets. TargetError with the target's own words when it cannot
    be started.
    """
    script = _settings(log=log, pid_file=pid_file, directory=directory, stale=stale, function=IDENTITY)
    script += "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    script += f"set -- {shlex.join(argv)}\n{START}"
    done = target.run(["sh", "-s"], stdin=script.encode())
    if done.exit_code == NO_SETSID:
        raise TargetError(
            f"{argv[0]} could not be started: the target has no `setsid`",
            remedy="install util-linux (or busybox with setsid) on it",
        )
    if not done.ok:
        raise TargetError(f"{argv[0]} could not be started: {done.last_words}")
    return parse_pid_file(done.text)


def parse_pid_file(text: str) -> Detached:
    """Read "PID IDENTITY", the content of a pid file; TargetError when it is something else."""
    pid, _, identity = text.strip().partition(" ")
    if not PID.fullmatch(pid) or not identity:
        raise TargetError(f"not a pid file of ours: {text[:80]!r}")
    return Detached(int(pid), identity)


def find_detached(target: Target, pid_file: str) -> Detached | None:
    """Return the process that `pid_file` names, if that very process still runs; TargetError when it is hidden."""
    script = (
        IDENTITY
        + SEE
        + 'read -r pid expected <"$1" && [ -n "$expected" ] || exit 1; see "$pid"\n'
        + '[ "$(identity "$pid")" = "$expected" ] && cat "$1"'
    )
    done = target.run(["sh", "-c", script, "sh", pid_file], repeatable=True)
    _check_seen(done)
    return parse_pid_file(done.text) if done.ok else None


def identity_of(target: Target, pid: int) -> str:
    """Return what tells the process that now has `pid` from a later one; empty when there is none."""
    return target.run(["sh", "-c", IDENTITY + 'identity "$1"', "sh", str(pid)], repeatable=True).text


def is_alive(target: Target, process: Detached) -> bool:
    """Tell whether that very process still runs on the target; TargetError when it is hidden."""
    script = IDENTITY + SEE + 'see "$1"; [ "$(identity "$1")" = "$2" ]'
    done = target.run(["sh", "-c", script, "sh", str(process.pid), process.identity], repeatable=True)
    _check_seen(done)
    return done.ok


def stop(target: Target, process: Detached, *, grace: float = 5.0) -> str:
    """Ask the process to end, kill its group after `grace` seconds: "gone" before, "stopped", "killed" or "alive".

    TargetError when it cannot be told: the process is hidden, or the target does not answer.
    """
    settings = _settings(pid=str(process.pid), expected=process.identity, ticks=str(max(1, round(grace / 0.02))))
    done = target.run(["sh", "-s"], stdin=(settings + STOP).encode(), timeout=grace + 10, repeatable=True)
    _check_seen(done)
    if not done.text:
        raise TargetError(f"process {process.pid} could not be stopped: {done.last_words}")
    return done.text


def _check_seen(done: Completed) -> None:
    if done.exit_code == HIDDEN:
        raise TargetError(done.last_words, remedy="mount the target's /proc without hidepid, or with gid= for its user")


def _settings(**values: str) -> str:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
