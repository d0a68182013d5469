"""Look at a detached program: is it alive, what does its state file say, what did it log since."""

from __future__ import annotations

from typing import NamedTuple

from roboticks_tasks.errors import TargetError
from roboticks_tasks.targets.detached import IDENTITY, Detached
from roboticks_tasks.targets.protocol import Target

MOST_LOG = 262_144
"""Bytes of log in one look; the rest comes with the next one."""

LONGEST_STATE = 60_000
"""Characters of a state, which is an argument of the next look; a longer one counts as none."""

TICK = 0.02
"""Seconds between two looks of the target's own shell."""

REMEMBERED = 32
"""Bytes before a place in a log by which its file is recognised: a new file may have got the number of an old one."""

OFTEN = 10
"""Looks of the target's own shell between two that ask whether the log is another file now."""

# The waiting is done on the target, so that a change costs one round trip however slow the link is, and by the shell
# itself: all that is usual, a log that grows, costs no program but `sleep`. It is open as descriptor 3, behind what
# has been read of it, so that reading there tells whether it has grown.
#
# A log that is not the file that was read last (or no longer has the $lead bytes before the place, which the caller
# compares: then it asks again, and is `thorough`) was rotated, emptied or replaced. It is followed from the file that
# was read last, whatever it is called now ($log.1, $log.2 …), to the new one: `survey` lists the files to read, oldest
# first, as inode:from:length:number, and sets `news` when they hold any.
WATCH = (
    IDENTITY
    + r"""
state=$1 log=$2 pid=$3 expected=$4 known=$5 inode=$6 offset=$7 before=$8 ticks=$9
shift 9
tick=$1 most=$2 often=$3 longest=$4 thorough=$5
open_log() {
    there='' size=0
    [ -f "$log" ] && command exec 3<"$log" || return
    set -- $(ls -dinlL /proc/self/fd/3) && there=$1 size=$6
} 2>/dev/null
go_to() { dd bs=1 count=0 skip="$1" <&3 2>/dev/null; }
examine() {
    parts='' news='' lead=0
    open_log
    if [ -n "$there" ] && [ "${inode:-$there}" = "$there" ] && [ "$size" -ge "$offset" ] && [ -z "$thorough" ]; then
        parts=$there:$offset:$size:0
        [ "$size" -eq "$offset" ] || news=usual lead=$((${#before} / 2))
    else
        survey
    fi
}
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
    newest='' found=''
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
        [ "$length" -le "$from" ] || news=moved
    done
} 2>/dev/null
split() { IFS=:; set -- $1; unset IFS; this=$1 from=$2 length=$3 number=$4; called "$number"; }
turn=0 there=''
while :; do
    calm='' text='' more=''
    identity "$pid" >/dev/null && [ "$identity" = "$expected" ] && alive=1 || alive=0
    { IFS= read -r text <"$state"; } 2>/dev/null
    [ "${#text}" -le "$longest" ] || text=''
    [ "$alive" = 1 ] && [ "$text" = "$known" ] && [ "$ticks" -gt 0 ] && calm=1
    if [ -z "$calm" ] || [ -z "$there" ] || [ "$((turn % often))" = 0 ] || read -r more <&3 || [ -n "$more" ]; then
        examine
        [ -n "$calm" ] && [ -z "$news" ] || break
        [ -z "$there" ] || go_to "$size"
    fi
    ticks=$((ticks - 1)) turn=$((turn + 1))
    sleep "$tick" 2>/dev/null || sleep 1
done
printf '%s\n%s\n%s\n%s\n' "$alive" "$text" "$parts" "$lead"
same=1
case $news in
usual)
    length=$((size - offset))
    [ "$length" -le "$most" ] || length=$most
    go_to "$((offset - lead))" && head -c "$((lead + length))" <&3
    ;;
moved)
    for part in $parts; do
        split "$part"
        [ "$length" -le "$from" ] || tail -c "+$((from + 1))" "$called" | head -c "$((length - from))"
    done 2>/dev/null | head -c "$most"
    for part in $parts; do
        split "$part"
        [ "$this" = "$(inode_of "$called" 2>/dev/null)" ] || same=0
    done
    ;;
esac
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
    """One look: `state` is the state file's one line, `log` what was logged since, `position` where to go on.

    `behind` is how many bytes there are after that, up to the position `end`.
    """

    alive: bool
    state: str
    log: bytes
    position: Position
    behind: int = 0
    end: Position = START


def watch(
    target: Target,
    process: Detached,
    *,
    state_path: str,
    log_path: str,
    known_state: str = "",
    position: Position = START,
    patience: float = 0.0,
    most: int = MOST_LOG,
) -> Look:
    """Return as soon as the state differs from `known_state`, there is more in the log, or the process ended.

    After `patience` seconds it returns what there is, at most `most` bytes of log. A process that ended is looked at
    once more, so that nothing it wrote before is missed. A log that is rotated, emptied or replaced meanwhile is
    followed into its new file.
    """
    ticks = max(0, round(patience / TICK))
    place = (position.file, position.offset, position.before.hex())
    numbers = (ticks, TICK, most, OFTEN, LONGEST_STATE)
    words = [state_path, log_path, process.pid, process.identity, known_state, *place, *numbers]
    for thorough in ("", "1"):
        argv = ["sh", "-c", WATCH, "sh", *map(str, words), thorough]
        done = target.run(argv, timeout=patience * 3 + 30, repeatable=True)
        if not done.ok:
            raise TargetError(f"{log_path} could not be looked at: {done.last_words}")
        alive, state, parts, lead, body = done.stdout.split(b"\n", 4)
        before, body = body[: int(lead)], body[int(lead) :]
        if not before or before == position.before:
            break
    log = body[:-1] if body.endswith(b"1") else b""  # it was rotated while it was read: the next look reads it again
    places = parts.decode().split()
    behind, end = _rest(places, position)
    return Look(
        alive=alive == b"1",
        state=state.decode("utf-8", "surrogateescape"),
        log=log,
        position=_advance(position, places, log),
        behind=behind - len(log),
        end=end,
    )


def _rest(parts: list[str], position: Position) -> tuple[int, Position]:
    """Return how much there is to read in `parts`, and where it ends."""
    size = 0
    for part in parts:
        file, start, length, _ = part.split(":")
        size += max(0, int(length) - int(start))
        position = Position(file, int(length))
    return size, position


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
