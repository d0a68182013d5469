"""A watchdog on the board: it stops the device manager when nobody has sent a sign of life for too long.

It needs nobody on this machine and no link to it: it is for the time when these have died. A sign of life is a number,
the seconds that it is good for, written into the watchdog's own standard input, which its process id leads to: that
needs no room on a disk, and no other program than the shell.
"""

from __future__ import annotations

import logging
import math

from roboticks_tasks.errors import TargetError
from roboticks_tasks.models import DeviceManager
from roboticks_tasks.targets import Target
from roboticks_tasks.targets.detached import IDENTITY, STOP, find_detached, spawn_detached

log = logging.getLogger(__name__)

PID_FILE = "run/watchdog.pid"
"""Below the root; it names the one watchdog that counts, and a watchdog that it does not name ends."""

NOBODY = 69
"""Exit code of a sign of life that has found no watchdog (EX_UNAVAILABLE)."""

# Nothing reads a clock: one process writes an empty line each second, and whoever reads them counts. A `sleep` that
# somebody kills is slept again, and what cannot sleep ends: it may count slowly, never fast. Lines are read in the
# order in which they were written, so that a board which was busy for a while finds the signs of life between them.
#
# The reader is no leader of a group; its number is in the pid file, for its standard input is the pipe.
WATCHDOG = (
    IDENTITY
    + r"""
pid=$1 expected=$2 left=$3 grace=$4 pid_file=$5 log=$6 stop=$7 good=$3
{ while { sleep 1 || sleep 1; } && echo; do :; done; } 2>/dev/null | {
    read -r me rest </proc/self/stat
    read -r named rest <"$pid_file" && [ "$named" = "$$" ] || exit
    { printf '%s %s\n' "$me" "$(identity "$me")" >"$pid_file.new" && mv "$pid_file.new" "$pid_file"; } || exit
    while read -r word; do
        case $word in
        *[!0-9]*) continue ;;
        ?*) left=$word good=$word && continue ;;
        esac
        left=$((left - 1)) named=''
        { read -r named rest <"$pid_file"; } 2>/dev/null
        [ "$named" = "$me" ] || exit
        identity "$pid" >/dev/null && [ "$identity" = "$expected" ] || break
        [ "$left" -le 0 ] || continue
        outcome=$(ticks=$grace && eval "$stop")
        case $outcome in gone | '') break ;; esac
        echo "watchdog: stopped the device manager (pid $pid, $outcome): \
no sign of life for $good s, neither from the run nor from its machine" >>"$log"
        break
    done
    rm -f "$pid_file"
}
"""
)

# $1 pid file, $2 seconds. The process id may have become somebody else's; and in a watchdog's first moment the file
# names its leader, whose standard input is no pipe.
BEAT = r"""
{
    file=$1 seconds=$2 boot=none tries=50
    read -r boot </proc/sys/kernel/random/boot_id
    while :; do
        read -r pid expected <"$file" && read -r stat <"/proc/$pid/stat" || exit 69
        set -- ${stat##*) }
        [ "$1" != Z ] && [ "${20}-$boot" = "$expected" ] || exit 69
        [ ! -p "/proc/$pid/fd/0" ] || break
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || exit 69
        sleep 0.02 2>/dev/null || sleep 1
    done
} 2>/dev/null
echo "$seconds" >"/proc/$pid/fd/0" || { [ -p "/proc/$pid/fd/0" ] || exit 69; exit 74; }
"""

# $1 pid file. The group goes as a whole: there is nothing that any of it would have to tidy up.
END = (
    IDENTITY
    + r"""
read -r pid expected <"$1" 2>/dev/null && rm -f "$1"
[ -n "$expected" ] && identity "$pid" >/dev/null && [ "$identity" = "$expected" ] || { echo none; exit; }
read -r stat <"/proc/$pid/stat" && set -- ${stat##*) } && kill -s KILL -- "-$3" 2>/dev/null
echo stopped
"""
)


def start_watchdog(target: Target, dm: DeviceManager, *, seconds: float, grace: float = 5.0) -> None:
    """Start the watchdog of `dm`, which stops it unless a sign of life comes within `seconds`.

    It does so as `detached.stop` does, with `grace` seconds between SIGTERM and SIGKILL, and says why in the device
    manager's log. It ends with the device manager, and when another watchdog is started for the same root. TargetError
    when it cannot be started.
    """
    pid_file = pid_file_of(dm.root)
    counts = [str(math.ceil(seconds)), str(max(1, round(grace / 0.02)))]
    words = [str(dm.pid), dm.identity, *counts, pid_file, dm.log_path, STOP]
    spawn_detached(
        target,
        ["sh", "-c", WATCHDOG, "sh", *words],
        environment={},
        log="/dev/null",
        pid_file=pid_file,
        directory=dm.root,
    )


def beat(target: Target, root: str, *, seconds: float, timeout: float = 5.0) -> bool:
    """Give the watchdog of `root` a sign of life that is good for `seconds`; False when there is no watchdog.

    TargetError when that cannot be done within `timeout` seconds.
    """
    argv = ["sh", "-c", BEAT, "sh", pid_file_of(root), str(math.ceil(seconds))]
    done = target.run(argv, timeout=timeout, repeatable=True)
    if not done.ok and done.exit_code != NOBODY:
        raise TargetError(f"the board's watchdog does not take a sign of life: {done.last_words}")
    return done.ok


def keep_for(target: Target, dm: DeviceManager, seconds: float) -> None:
    """Have the board stop `dm` in `seconds` by itself, with the watchdog that there is or with a new one.

    Whoever calls this gives no other sign of life afterwards: the last one counts. TargetError when it cannot be done.
    """
    if not beat(target, dm.root, seconds=seconds):
        start_watchdog(target, dm, seconds=seconds)


def stop_watchdog(target: Target, root: str) -> str:
    """End the watchdog of `root`: "stopped", or "none" when none was running; may be called twice."""
    done = target.run(["sh", "-c", END, "sh", pid_file_of(root)], repeatable=True)
    if not done.text:
        raise TargetError(f"the board's watchdog could not be stopped: {done.last_words}")
    return done.text


def is_watched(target: Target, root: str) -> bool:
    """Tell whether a watchdog runs for `root`."""
    return find_detached(target, pid_file_of(root)) is not None


def pid_file_of(root: str) -> str:
    """Return the path of the file that names the watchdog of `root`."""
    return f"{root.rstrip('/')}/{PID_FILE}"
