"""The last look at a target: nothing that belongs to a run goes on, whatever session or group it has moved into."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from roboticks_tasks import processes
from roboticks_tasks.errors import TargetError
from roboticks_tasks.targets.protocol import Target

# `sweep NAME=VALUE PIDS` kills every process that was started with that in its environment and prints how many, but
# PIDS, this shell and its parents: a run on its own machine has it as well, and so may the login on a board.
#
# One grep looks at all processes, as looking at each costs a small board seconds. Not every grep sees what is behind a
# zero byte (busybox's does for an expression, not for a fixed word), so it must also find the name in its own
# environment; else each process is looked at. What it has found is compared as a whole, between zero bytes.
#
# Who is being killed may have started another one before: it is looked again until nothing is found.
SWEEP = r"""
parent_of() {
    parent=''
    while read -r word number; do
        [ "$word" != PPid: ] || { parent=$number; break; }
    done <"/proc/$1/status"
} 2>/dev/null
carries() { tr '\0\n' '\n\1' <"/proc/$1/environ" | grep -qxF -e "$2"; } 2>/dev/null
carriers() {
    read -r own rest </proc/self/stat
    found=$(env LC_ALL=C "$1" grep -l -e "${1%%=*}=" /proc/[0-9]*/environ /proc/self/environ 2>/dev/null)
    case $found in */proc/self/environ*) ;; *) found=$(echo /proc/[0-9]*/environ) ;; esac
    for path in $found; do
        number=${path#/proc/}
        number=${number%/environ}
        case "$spared$own " in *" $number "*) continue ;; esac
        [ "$number" = self ] || ! carries "$number" "$1" || echo "$number"
    done
}
sweep() {
    read -r parent rest </proc/self/stat
    spared=" $2 $$ "
    while [ -n "$parent" ] && [ "$parent" != 0 ]; do
        spared="$spared$parent "
        parent_of "$parent"
    done
    killed=' ' count=0 rounds=50
    while [ "$rounds" -gt 0 ] && left=$(carriers "$1") && [ -n "$left" ]; do
        for number in $left; do
            kill -s KILL "$number" 2>/dev/null || continue
            case "$killed" in *" $number "*) ;; *) killed="$killed$number " count=$((count + 1)) ;; esac
        done
        sleep 0.02 2>/dev/null || sleep 1
        rounds=$((rounds - 1))
    done
    echo "$count"
}
"""


def sweep(target: Target, run_id: str, *, spare: Iterable[int] = ()) -> int:
    """Kill every process on the target that has the run's id in its environment, and return how many there were.

    In one round trip. It finds what has left its group and its session; it misses what was started with another
    environment, and what another user has, unless we are root. This shell and its parents are spared, the run itself
    therefore where the target is its own machine, and the process ids `spare`. TargetError when it cannot be done.
    """
    mark = f"{processes.COOKIE}={run_id}"
    spared = " ".join(map(str, spare))
    script = f"{SWEEP}unset {processes.COOKIE}\nsweep {shlex.quote(mark)} {shlex.quote(spared)}\n"
    done = target.run(["sh", "-s"], stdin=script.encode(), repeatable=True)
    if not done.ok or not done.text.isdecimal():
        raise TargetError(f"what the run {run_id} has left could not be looked for: {done.last_words}")
    return int(done.text)
