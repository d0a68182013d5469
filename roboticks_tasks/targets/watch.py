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

REMEMBERED = 32
"""Bytes before a place in a log by which its file is recognised: a new file may have got the number of an old one."""

# The waiting is done on the target, so that a change costs one round trip however slow the link is. A log that was
# rotated is followed from the file that was read last, whatever it is called now ($log.1, $log.2 …), to the new one.
# `survey` lists the files to read, oldest first, as inode:from:length:number, and sets `news` when they hold any.
WATCH = (
    IDENTITY
    + r"""
state=$1 log=$2 pid=$3 expected=$4 known=$5 inode=$6 offset=$7 before=$8 ticks=$9
shift 9
tick=$1 most=$2
inode_of() { set -f; set -- $(ls -idL -- "$1"); echo "$1"; }
called() { [ "$1" = 0 ] && called=$log || called=$log.$1; }
is_same() {
    if [ "$this" = "$inode" ]; then
        [ "$length" -eq "$offset" ] && return
    else  # a copy of a log that was then emptied
        [ "$number" != 0 ] && [ "${#before}" -eq 64 ] || return
    fi
    [ "$length" -ge "$offset" ] || return
    count=$((${#before} / 2))
    [ "$before" = "$(tail -c "+$((offset - count + 1))" "$called" | head -c "$count" | od -An -v -tx1 | tr -d ' \n')" ]
}
survey() {
    parts='' newest='' found='' news=''
    for number in 0 1 2 3 4 5 6 7 8 9; do
        called "$number"
        if [ -f "$called" ]; then
            length=$(($(wc -c <"$called"))) this=$(inode_of "$called")
            is_same && found=$offset
            parts="$this:${found:-0}:$length:$number $parts"
            [ "$number" != 0 ] || newest=$parts
        elif [ "$number" != 0 ]; then
            break
        fi
        [ -z "$found" ] && [ -n "$inode" ] || break
    done
    [ -n "$found" ] || parts=$newest
    for part in $parts; do
        split "$part"
        [ "$length" -le "$from" ] || news=1
    done
} 2>/dev/null
split() { IFS=:; set -- $1; unset IFS; this=$1 from=$2 length=$3 number=$4; called "$number"; }
seen=first
while :; do
    alive=0
    [ "$(identity "$pid")" = "$expected" ] && alive=1
    text=''
    { IFS= read -r text <"$state"; } 2>/dev/null
    there=$(ls -dinlL -- "$log" 2>/dev/null)  # inode and size
    [ "$there" = "$seen" ] || { seen=$there; survey; }
    [ "$alive" = 1 ] && [ "$text" = "$known" ] && [ -z "$news" ] && [ "$ticks" -gt 0 ] || break
    ticks=$((ticks - 1))
    sleep "$tick" 2>/dev/null || sleep 1
done
printf '%s\n%s\n%s\n' "$alive" "$text" "$parts"
[ -n "$news" ] || { printf 1; exit; }
for part in $parts; do
    split "$part"
    [ "$length" -le "$from" ] || tail -c "+$((from + 1))" "$called" | head -c "$((length - from))"
done 2>/dev/null | head -c "$most"
same=1
for part in $parts; do
    split "$part"
    [ "$this" = "$(inode_of "$called" 2>/dev/null)" ] || same=0
done
printf '%s' "$same"
"""
)


class Position(NamedTuple):
    """How far a log has been read: in which file (its inode), how many bytes, and what the last of them were."""

    file: str = ""
    offset: int = 0
    before: bytes = b""


START = Position()
"""Where a log is read from that nobody has looked at yet."""


class Look(NamedTuple):
    """One look: `state` is the state file's one line, `log` what was logged since, `position` where to go on."""

    alive: bool
    state: str
    log: bytes
    position: Position


def watch(
    target: Target,
    process: Detached,
    *,
    state_path: str,
    log_path: str,
    known_state: str = "",
    position: Position = START,
    patience: float = 0.0,
) -> Look:
    """Return as soon as the state differs from `known_state`, there is more in the log, or the process ended.

    After `patience` seconds it returns what there is. A process that ended is looked at once more, so that nothing
    it wrote before is missed. A log that is rotated, emptied or replaced meanwhile is followed into its new file.
    """
    ticks = max(0, round(patience / TICK))
    place = (position.file, position.offset, position.before.hex())
    words = [state_path, log_path, process.pid, process.identity, known_state, *place, ticks, TICK, MOST_LOG]
    done = target.run(["sh", "-c", WATCH, "sh", *map(str, words)], timeout=patience * 3 + 30, repeatable=True)
    if not done.ok:
        raise TargetError(f"{log_path} could not be looked at: {done.last_words}")
    alive, state, parts, body = done.stdout.split(b"\n", 3)
    log = body[:-1] if body.endswith(b"1") else b""  # it was rotated while it was read: the next look reads it again
    return Look(
        alive == b"1", state.decode("utf-8", "surrogateescape"), log, _advance(position, parts.decode().split(), log)
    )


def _advance(position: Position, parts: list[str], log: bytes) -> Position:
    """Return the position behind `log`; it stays in a file until something was read from a newer one."""
    for part in parts:
        file, start, length, _ = part.split(":")
        piece = log[: int(length) - int(start)]
        log = log[len(piece) :]
        if piece or not position.file:
            known = position.before if int(start) else b""
            position = Position(file, int(start) + len(piece), (known + piece)[-REMEMBERED:])
    return position
