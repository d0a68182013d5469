"""Several independent commands at once, in one round trip."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from roboticks_tasks.errors import TargetError
from roboticks_tasks.targets.protocol import Completed, Target

# A shell that ends by a signal runs no trap for its end; SIGPIPE is what it gets when the link broke meanwhile.
# A command that is still under way may make a file in the moment between two looks of `rm`; each makes one at the end.
CLEANUP = """d=''
trap '[ -z "$d" ] || rm -rf "$d" 2>/dev/null || rm -rf "$d" || rm -rf "$d"' EXIT
trap 'exit 143' HUP INT TERM PIPE"""


def run_all(
    target: Target, commands: Sequence[Sequence[str]], *, timeout: float = 30.0, repeatable: bool = False
) -> list[Completed]:
    """Run `commands` side by side on the target and return how each ended, in the same order.

    The side-by-side is the target's own shell's: no thread here can outlive a cancelled run. `timeout` is in seconds
    for all of them together; `repeatable` says that running all of them twice does no harm.
    """
    if len(commands) < 2:
        return [target.run(argv, timeout=timeout, repeatable=repeatable) for argv in commands]
    numbers = range(len(commands))
    lines = [CLEANUP, "d=$(mktemp -d) || exit 73"]
    for number, argv in zip(numbers, commands, strict=True):
        files = f'>"$d/{number}.out" 2>"$d/{number}.err" </dev/null'
        lines.append(f'({shlex.join(argv)} {files}; echo $? >"$d/{number}.code") &')
    lines.append("wait")
    for n in numbers:
        lines.append(f'[ -s "$d/{n}.code" ] || {{ echo "there is no room for their output in $d" >&2; exit 73; }}')
        lines.append(f'''echo "$(cat "$d/{n}.code") $(wc -c <"$d/{n}.out") $(wc -c <"$d/{n}.err")"''')
        lines.append(f'cat "$d/{n}.out" "$d/{n}.err"')
    done = target.run(["sh", "-s"], stdin="\n".join(lines).encode(), timeout=timeout, repeatable=repeatable)
    if not done.ok:
        raise TargetError(f"{len(commands)} commands could not be run together: {done.last_words}")
    return _split(done.stdout, len(commands))


def _split(output: bytes, count: int) -> list[Completed]:
    results = []
    for _ in range(count):
        header, _, output = output.partition(b"\n")
        code, out, err = map(int, header.split())
        results.append(Completed(code, output[:out], output[out : out + err]))
        output = output[out + err :]
    return results
