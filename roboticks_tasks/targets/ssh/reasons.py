"""What ssh's words mean, and what to do about them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from roboticks_tasks.errors import AccessError, BoardError, UnreachableError
from roboticks_tasks.profiles.boards import board_of
from roboticks_tasks.profiles.values import Profile
from roboticks_tasks.targets.ssh import known_hosts
from roboticks_tasks.targets.ssh.invocation import host_of

NOISE = re.compile(
    r"^(\s*$|\*\*|debug\d|mux_client|Control socket|Killed by signal|Shared connection|Warning: Permanently added"
    r"|kex_exchange_identification: |Connection closed by UNKNOWN|roboticks-)"
)
"""Lines that explain nothing once others are there."""


class Meaning(NamedTuple):
    """A pattern of ssh's words, and what it means: sentence and remedy, filled in with the facts of the connection."""

    pattern: str
    message: str
    remedy: str
    kind: type[BoardError] = BoardError


ENROL = "`roboticks-tasks enroll --profile {profile} --board {board}`"
CHECK_POWER = "is it powered, booted and on the network?"
CHECK_SHELL = "check the user's login shell, and ForceCommand in the board's sshd_config"

MEANINGS = (
    Meaning(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "THE HOST KEY OF {board} HAS CHANGED: pinned is {pinned}, {where} offers {offered}; somebody may be in between",
        f"find out why; only when the board was installed anew, pin the new key: {ENROL[:-1]} --replace`",
        AccessError,
    ),
    Meaning(
        r"REVOKED HOST KEY DETECTED",
        "the host key of {board} is marked as @revoked in {known_hosts}, and {where} still uses it",
        "give the board another host key, then pin that one: " + ENROL[:-1] + " --replace`",
        AccessError,
    ),
    Meaning(
        r"host key is known for (?P<name>\S+) and you have requested strict checking",
        "no host key is pinned for {board} in {known_hosts}",
        f"look at the board's key and pin it: {ENROL}",
        AccessError,
    ),
    Meaning(
        r"UNPROTECTED PRIVATE KEY FILE|bad permissions",
        "ssh does not use the key {key}: others may read it",
        "chmod 600 {key}",
        AccessError,
    ),
    Meaning(
        r'Load key "(?P<file>[^"]*)": (?P<why>(?!Permission)[^\r\n]*)[\s\S]*Permission denied',
        "ssh cannot use the key {file}: {why}",
        "name another `identity_file`, or add the key to an ssh agent",
        AccessError,
    ),
    Meaning(
        r"(?:(?P<login>\S+)@\S+: )?Permission denied \((?P<methods>[^)]*)\)",
        "{where} refuses {login} with {key} (it accepts: {methods})",
        "add the public key to ~/.ssh/authorized_keys there, or set `user` and `identity_file` in [target]",
        AccessError,
    ),
    Meaning(
        r"Too many authentication failures",
        "{where} refuses {login}: too many keys were tried",
        "set `identity_file` in [target]",
        AccessError,
    ),
    Meaning(
        r"Could not resolve hostname (?P<name>\S+): (?P<why>[^\r\n]*)",
        "the name of {where} is not known: {why}",
        "check `host` in [[boards]], and the name service",
        UnreachableError,
    ),
    Meaning(
        r"connect to host \S+ port (?P<port>\d+): Connection refused",
        "{where} refuses connections at port {port}",
        "is sshd running there, and is this its port?",
        UnreachableError,
    ),
    Meaning(
        r"connect to (?:host|address) \S+ port (?P<port>\d+): (?P<why>[^\r\n]*)",
        "{where} cannot be reached at port {port}: {why}",
        CHECK_POWER,
        UnreachableError,
    ),
    Meaning(
        r"timed out during banner exchange|Timeout, server \S+ not responding|Connection timed out",
        "{where} accepts connections, but does not answer",
        "is it still booting, or stuck?",
        UnreachableError,
    ),
    Meaning(
        r"Connection (?:closed|reset) by|Connection closed|Connection reset by peer|Broken pipe",
        "{where} closes the connection: {last}",
        "is it booting, or does it limit connections (MaxStartups)?",
        UnreachableError,
    ),
)

JUMP_MEANINGS = (
    Meaning(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "THE HOST KEY OF THE JUMP HOST {jump} HAS CHANGED; somebody may be in between",
        "find out why; then correct this user's ~/.ssh/known_hosts",
        AccessError,
    ),
    Meaning(
        r"Host key verification failed",
        "this user's ssh does not know the host key of the jump host {jump}",
        "connect to it once by hand: ssh {jump}",
        AccessError,
    ),
    Meaning(
        r"Permission denied \((?P<methods>[^)]*)\)",
        "the jump host {jump} refuses this user's key (it accepts: {methods})",
        "set its User and IdentityFile in ~/.ssh/config",
        AccessError,
    ),
    Meaning(
        r"open failed: (?P<why>[^\r\n]*)",
        "the jump host {jump} cannot reach {where}: {why}",
        CHECK_POWER,
        UnreachableError,
    ),
    Meaning(
        r"(?:Could not resolve hostname|connect to host) \S+ ?(?:port \d+)?: (?P<why>[^\r\n]*)",
        "the jump host {jump} cannot be reached: {why}",
        "check `jump` in [target]",
        UnreachableError,
    ),
)


def explain(
    profile: Profile, words: str, *, said: bytes = b"", late: bool = False, entered: bool = False
) -> BoardError:
    """Return what to raise when no connection came about; UnreachableError where a board that boots would do the same.

    `words` is what ssh wrote on stderr, `said` what the board's shell printed, `late` that the time was over,
    `entered` that the login itself had succeeded.
    """
    last = last_line(words) or last_line(said.decode("utf-8", "replace"))
    facts = _facts(profile, words) | {"last": last}
    # What ends without an address has ended in the ssh to the jump host.
    table = (*JUMP_MEANINGS, *MEANINGS) if "UNKNOWN port" in words else MEANINGS
    for meaning in table:
        found = re.search(meaning.pattern, words)
        if found is not None:
            known = facts | {name: text.strip() for name, text in found.groupdict().items() if text}
            return meaning.kind(meaning.message.format_map(known), remedy=meaning.remedy.format_map(known))
    where = facts["where"]
    if said.strip():
        return BoardError(f"{where} lets us in, but its shell does not run commands: {last}", remedy=CHECK_SHELL)
    if late:
        did = "lets us in, but its shell does not answer" if entered else "did not let us in"
        words = f": {last}" if last else ""
        return UnreachableError(
            f"{where} {did} within {profile.target.connect_timeout:g} s{words}",
            remedy=CHECK_SHELL if entered else CHECK_POWER,
        )
    return BoardError(f"no connection to {where}: {last or 'ssh said nothing'}", remedy="try it by hand with ssh -v")


def check_files(profile: Profile) -> None:
    """AccessError when a file that the profile names is missing or unreadable: ssh's own words are misleading then."""
    key = profile.target.identity_file
    if key is not None:
        path = Path(key).expanduser()
        try:
            path.open("rb").close()
        except OSError as error:
            raise AccessError(
                f"the key {path} cannot be read: {error.strerror}", remedy="check `identity_file` in [target]"
            ) from error
    if not known_hosts.read(profile).strip():
        facts = _facts(profile, "")
        raise AccessError(
            f"no host key is pinned for {facts['board']}: {profile.target.known_hosts} is missing or empty",
            remedy=f"look at the board's key and pin it: {ENROL.format_map(facts)}",
        )


def last_line(words: str) -> str:
    """Return the last line of ssh's words that says something, "" when none does."""
    lines = [line.strip() for line in words.splitlines()]
    telling = [line for line in lines if not NOISE.match(line)]
    return (telling or [line for line in lines if line] or [""])[-1]


def shown(argv: Sequence[str]) -> str:
    """Return a command for a message."""
    return " ".join(shlex.join(argv).split())[:200]


def _facts(profile: Profile, words: str) -> dict[str, str]:
    target, board = profile.target, board_of(profile)
    port = board.port or target.port
    host = host_of(profile)
    changed = "HAS CHANGED" in words
    offered = re.findall(r"SHA256:[A-Za-z0-9+/]+", words)
    pins = known_hosts.pinned(profile) if changed else []
    key = target.identity_file
    return {
        "profile": profile.name or "NAME",
        "board": board.id,
        "where": f"{board.id} ({host}{f':{port}' if port else ''})",
        "port": str(port or 22),
        "login": target.user or os.environ.get("USER", "this user"),
        "key": str(Path(key).expanduser()) if key else "the keys that ssh found",
        "jump": target.jump or "of the ssh config",
        "known_hosts": target.known_hosts,
        "offered": offered[0] if offered else "another one",
        "pinned": ", ".join(each.fingerprint for each in pins) or "another one",
    }
