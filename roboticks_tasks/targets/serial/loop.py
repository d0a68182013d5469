"""What runs on the board: a loop in its own `sh` that answers requests, and the one line that starts it.

Every request may be sent again: the loop does a thing once and says its outcome as often as it is asked.
"""

from __future__ import annotations

from textwrap import dedent

QUIT = "roboticks-quit"
"""Ends the loop whatever its nonce is, for a run that finds the loop of a killed one."""

STALE = b"<roboticks loop>"
"""What a loop answers to an empty line."""

FOLDER = "roboticks-serial"

# Typed into the login shell, whatever shell that is: one line, in single quotes, without "!" and newlines.
# It reads the loop with the terminal's echo off, shows its checksum, and starts it when that was right.
START = (
    'sh -c \'o=$(stty -g) || exit;trap "stty $o" 0;trap "exit 1" 1 2 15;'
    "stty -echo -echonl -tostop -istrip icanon isig icrnl;s=;"
    'echo "<NONCE"" up $(command -v cksum||command -v sha256sum||command -v md5sum)>";'
    'while IFS= read -r l && [ "$l" != . ];do s=$s$l;done;'
    'echo "<NONCE sum $(printf %s "$s"|(cksum||sha256sum||md5sum)2>/dev/null)>";'
    'IFS= read -r a;[ "$a" = go ] && eval "$(printf %s "$s"|tr "^" "\\n")"\''
)

# No "^" in here: it stands for a newline on its way.
_LOOP = r"""
N=NONCE ran= job= at=0 size=0 d= missing=
set -f
set -m 2>/dev/null
say() { q=$1; shift; printf '<%s %s %s=%s>\n' $N $q "$*" "$*"; }
end() { printf '<%s %s.>\n' $N $1; }
tell() { say "$@"; end $1; }
kill_job() {
[ -n "$job" ] && [ ! -s "$d/code.$ran" ] || return
rm -f "$d/cmd.$ran"
read -r p <"$d/cmd.$ran.pid" && kill -s KILL -- -$p
kill -s KILL $job; wait $job; job=
} 2>/dev/null
deaf() { trap '' 1 2 15; }
finish() { deaf; kill_job; [ -z "$d" ] || rm -rf "$d"; stty $o; }
trap finish 0
trap 'deaf; exit 1' 1 2 15
for t in mktemp setsid head dd rm tr; do command -v $t >/dev/null || missing="$missing $t"; done
if command -v base64 >/dev/null && [ "$(printf YQ== | base64 -d)" = a ]; then
c=base64; enc() { base64; }; dec() { base64 -d; }; text() { printf %s "$1" | base64 -d; }
else
c=octal; enc() { od -An -v -tx1; }; dec() { while IFS= read -r l; do printf "$l"; done; }; text() { printf "$1"; }
[ "$(printf a | enc | tr -d ' ')" = 61 ] || missing="$missing base64"
fi 2>/dev/null
check() { SUM; }
both() { BOTH; }
[ -n "$missing" ] || {
set +f
for f in "${TMPDIR:-/tmp}"/FOLDER.*/pid; do
[ -f "$f" ] && read -r p <"$f" && ! kill -0 $p && rm -rf "${f%/pid}"
done 2>/dev/null
set -f
d=$(mktemp -d "${TMPDIR:-/tmp}/FOLDER.XXXXXX") && echo $$ >"$d/pid" || missing=" /tmp-that-can-be-written"; }
report() {
read -r code <"$d/code.$2"
set -- $1 $2 $(both "$d/out.$2" "$d/err.$2")
say $1 done $code $3 $4 $5 $6
if [ $(($4 + $6)) -le INLINE ]; then
if [ $6 = 0 ]; then [ $4 = 0 ] || enc <"$d/out.$2"; else cat "$d/out.$2" "$d/err.$2" | enc; fi
fi
end $1
}
work() {
setsid sh "$d/cmd.$1" <"$2" >"$d/out.$1" 2>"$d/err.$1"
echo $? >"$d/code.new"; mv "$d/code.new" "$d/code.$1"
report $1 $1
rm -f "$d/cmd.$1" "$d/in.$1" "$d/cmd.$1.pid"
}
start() {
[ "$1" != "$ran" ] || return
[ -z "$job" ] || wait $job
[ -z "$ran" ] || rm -f "$d/out.$ran" "$d/err.$ran" "$d/code.$ran"
ran=$1 in=$d/in.$1
[ "$2" = - ] || text "$2" >"$d/cmd.$1"
case $3 in 0) in=/dev/null;; -) ;; *) text "$3" >"$in";; esac
work $1 "$in" &
job=$!
}
state() {
if [ "$2" != "$ran" ]; then tell $1 unknown
elif [ -s "$d/code.$2" ]; then report $1 $2
else tell $1 running; fi
}
put() {
say $1 ready; end $1
head -n $4 | dec >"$d/part" 2>/dev/null
set -- $1 $2 $3 $5 $6 $(both "$d/part" /dev/null)
if [ "$4 $5" = "$6 $7" ]; then
if [ $3 = 0 ]; then cat "$d/part" >"$d/$2"; at=$5
elif [ $3 = $at ]; then cat "$d/part" >>"$d/$2"; at=$((at + $5)); fi
else set -- $1; fi
tell $1 put ${2:+$at}
}
get() {
dd if="$d/$2" of="$d/part" bs=1024 skip=$3 count=$4 2>/dev/null
say $1 data $(both "$d/part" /dev/null)
enc <"$d/part"
end $1
}
stop() {
[ "$ran" = $2 ] && kill_job
tell $1 stopped
}
tell 0 hello $c $missing
while IFS= read -r line; do
case $line in
"$N "*) ;;
'') echo 'STALE'; continue;;
QUIT) deaf; exit 0;;
*) tell 0 bad; continue;;
esac
set -- $(printf %s "${line% *}" | check)
[ "$1" = "${line##* }" ] || { tell 0 bad; continue; }
set -- ${line% *}
shift; q=$1 verb=$2; shift 2
case $verb in
hello) tell $q hello $c $missing;;
run) start $q "$@";;
state) state $q "$@";;
put) put $q "$@";;
get) get $q "$@";;
stop) stop $q "$@";;
bye) deaf; tell $q bye; exit 0;;
esac
done
"""

_BOTH = {
    "cksum": 'cksum "$1" "$2" | { read -r a b f; read -r e g f; echo $a $b $e $g; }',
    "": 'for f; do set -- $(check <"$f"); echo $1 $(wc -c <"$f"); done',
}
INLINE = 3000
"""Bytes of output and errors together that come along with the exit code."""


def start_line(nonce: str) -> str:
    """Return what is typed into a login shell to start the loop."""
    return START.replace("NONCE", nonce)


def loop_lines(nonce: str, checksum: str, *, longest: int) -> list[str]:
    """Return the loop as lines of at most `longest` characters, without their ends."""
    text = dedent(_LOOP).strip()
    both = _BOTH.get(checksum, _BOTH[""])
    words = {
        "NONCE": nonce,
        "SUM": checksum,
        "BOTH": both,
        "FOLDER": FOLDER,
        "INLINE": str(INLINE),
        "STALE": STALE.decode(),
        "QUIT": QUIT,
    }
    for name, value in words.items():
        text = text.replace(name, value)
    text = text.replace("\n", "^")
    return [text[start : start + longest] for start in range(0, len(text), longest)]
