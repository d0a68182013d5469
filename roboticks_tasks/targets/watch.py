"""Look at a detached program: is it alive, what does its state file say, what did it log since."""

from __future__ import annotations

from typing import NamedTuple

from roboticks_tasks.errors import TargetError
from roboticks_tasks.targets.detached import IDENTITY, Detached
from roboticks_tasks.targets.protocol import Target

MOST_LOG = 262_144
"""Bytes of log in one look; the rest comes with the next one."""

TICK = 0.02
"""Seconds between two looks of the target's own shell."""

# The waiting is done on the target, so that a change costs one round trip however slow the link is.
WATCH = (
    IDENTITY
    + r"""
state=$1 log=$2 pid=$3 expected=$4 known=$5 offset=$6 ticks=$7 tick=$8 most=$9
while :; do
    alive=0
    [ "$(identity "$pid")" = "$expected" ] && alive=1
    text=''
    { IFS= read -r text <"$state"; } 2>/dev/null
    size=0
    [ -f "$log" ] && size=$(wc -c <"$log")
    [ "$alive" = 1 ] && [ "$text" = "$known" ] && [ "$size" -le "$offset" ] && [ "$ticks" -gt 0 ] || break
    ticks=$((ticks - 1))
    sleep "$tick" 2>/dev/null || sleep 1
done
printf '%s\n%s\n' "$alive" "$text"
[ "$size" -gt "$offset" ] && tail -c "+$((offset + 1))" "$log" | head -c "$most"
exit 0
"""
)


class Look(NamedTuple):
    """One look: `state` is the state file's one line, `log` what was logged after the offset asked for."""

    alive: bool
    state: str
    log: bytes


def watch(
    target: Target,
    process: Detached,
    *,
    state_path: str,
    log_path: str,
    known_state: str = "",
    log_offset: int = 0,
    patience: float = 0.0,
) -> Look:
    """Return as soon as the state differs from `known_state`, the log grew beyond `log_offset`, or the process ended.

    After `patience` seconds it returns what there is. A process that ended is looked at once more, so that nothing
    it wrote before is missed.
    """
    ticks = max(0, round(patience / TICK))
    words = [state_path, log_path, process.pid, process.identity, known_state, log_offset, ticks, TICK, MOST_LOG]
    done = target.run(["sh", "-c", WATCH, "sh", *map(str, words)], timeout=patience * 3 + 30)
    if not done.ok:
        raise TargetError(f"the target could not be looked at: {done.last_words}")
    alive, state, log = done.stdout.split(b"\n", 2)
    return Look(alive == b"1", state.decode("utf-8", "surrogateescape"), log)
