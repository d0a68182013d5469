"""What ssh's words mean: its real messages, and what we make of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from roboticks_tasks.errors import BoardError, UnreachableError
from roboticks_tasks.profiles.values import Board, Profile, Target
from roboticks_tasks.targets.ssh.reasons import explain, last_line

CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Someone could be eavesdropping on you right now (man-in-the-middle attack)!
It is also possible that a host key has just been changed.
The fingerprint for the ED25519 key sent by the remote host is
SHA256:Zb1E+k2nM5cH6p1qv4yYb7i6VtT0Y2m5mF4jC3b2a1o.
Please contact your system administrator.
Add correct host key in /bench/known_hosts to get rid of this message.
Offending ED25519 key in /bench/known_hosts:3
Host key for jetson-01 has changed and you have requested strict checking.
Host key verification failed.
"""

OPEN_KEY = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@         WARNING: UNPROTECTED PRIVATE KEY FILE!          @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Permissions 0644 for '/bench/key' are too open.
It is required that your private key files are NOT accessible by others.
This private key will be ignored.
Load key "/bench/key": bad permissions
robot@10.0.0.7: Permission denied (publickey).
"""


class Case(NamedTuple):
    """What ssh wrote; what the message says; whether the board may be there later."""

    words: str
    message: str
    later: bool = False


CASES = {
    "refused": Case(
        "ssh: connect to host 10.0.0.7 port 2222: Connection refused\r\n", "refuses connections at port 2222", True
    ),
    "no route": Case(
        "ssh: connect to host 10.0.0.7 port 22: No route to host\r\n",
        "cannot be reached at port 22: No route to host",
        True,
    ),
    "timed out": Case(
        "ssh: connect to host 10.0.0.7 port 22: Connection timed out\r\n",
        "cannot be reached at port 22: Connection timed out",
        True,
    ),
    "no network": Case(
        "ssh: connect to host 10.0.0.7 port 22: Network is unreachable\r\n", "Network is unreachable", True
    ),
    "no name": Case(
        "ssh: Could not resolve hostname jetson-01.lab: Name or service not known\r\n",
        "the name of jetson-01 (jetson-01.lab:2222) is not known: Name or service not known",
        True,
    ),
    "refused key": Case(
        "robot@10.0.0.7: Permission denied (publickey,password).\r\n",
        "refuses robot with /bench/key (it accepts: publickey,password)",
    ),
    "refused key behind a banner": Case(
        "*** Authorised use only ***\r\nrobot@10.0.0.7: Permission denied (publickey).\r\n",
        "refuses robot with /bench/key",
    ),
    "locked key": Case(
        'Load key "/bench/key": incorrect passphrase supplied to decrypt private key\r\n'
        "robot@10.0.0.7: Permission denied (publickey).\r\n",
        "cannot use the key /bench/key: incorrect passphrase supplied to decrypt private key",
    ),
    "broken key": Case(
        'Load key "/bench/key": error in libcrypto\r\nrobot@10.0.0.7: Permission denied (publickey).\r\n',
        "cannot use the key /bench/key: error in libcrypto",
    ),
    "open key": Case(OPEN_KEY, "others may read it; chmod 600 /bench/key"),
    "too many keys": Case(
        "Received disconnect from 10.0.0.7 port 22:2: Too many authentication failures\r\n"
        "Disconnected from 10.0.0.7 port 22\r\n",
        "too many keys were tried",
    ),
    "not pinned": Case(
        "No ED25519 host key is known for jetson-01 and you have requested strict checking.\r\n"
        "Host key verification failed.\r\n",
        "no host key is pinned for jetson-01 in /bench/known_hosts; look at the board's key and pin it: "
        "`roboticks-tasks enroll --profile bench --board jetson-01`",
    ),
    "changed": Case(
        CHANGED,
        "THE HOST KEY OF jetson-01 HAS CHANGED: pinned is another one, jetson-01 (jetson-01.lab:2222) offers "
        "SHA256:Zb1E+k2nM5cH6p1qv4yYb7i6VtT0Y2m5mF4jC3b2a1o; somebody may be in between; find out why; only when the "
        "board was installed anew, pin the new key: "
        "`roboticks-tasks enroll --profile bench --board jetson-01 --replace`",
    ),
    "booting": Case(
        "kex_exchange_identification: read: Connection reset by peer\r\nConnection reset by 10.0.0.7 port 22\r\n",
        "closes the connection: Connection reset by 10.0.0.7 port 22",
        True,
    ),
    "closing": Case("Connection closed by 10.0.0.7 port 22\r\n", "Connection closed by 10.0.0.7 port 22", True),
    "silent": Case(
        "Connection timed out during banner exchange\r\nConnection to 10.0.0.7 port 22 timed out\r\n",
        "accepts connections, but does not answer",
        True,
    ),
    "jump refused": Case(
        "ssh: connect to host 10.0.0.1 port 22: Connection refused\r\n"
        "kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535\r\n",
        "the jump host gateway cannot be reached: Connection refused",
        True,
    ),
    "jump without a name": Case(
        "ssh: Could not resolve hostname gateway: Name or service not known\r\n"
        "kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535\r\n",
        "the jump host gateway cannot be reached: Name or service not known",
        True,
    ),
    "jump refuses the key": Case(
        "robot@10.0.0.1: Permission denied (publickey).\r\n"
        "kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535\r\n",
        "the jump host gateway refuses this user's key",
    ),
    "jump unknown": Case(
        "Host key verification failed.\r\n"
        "kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535\r\n",
        "this user's ssh does not know the host key of the jump host gateway; connect to it once by hand: ssh gateway",
    ),
    "jump changed": Case(
        CHANGED + "kex_exchange_identification: Connection closed by remote host\r\n"
        "Connection closed by UNKNOWN port 65535\r\n",
        "THE HOST KEY OF THE JUMP HOST gateway HAS CHANGED",
    ),
    "nobody behind the jump": Case(
        "channel 0: open failed: connect failed: No route to host\r\nstdio forwarding failed\r\n"
        "kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535\r\n",
        "the jump host gateway cannot reach jetson-01 (jetson-01.lab:2222): connect failed: No route to host",
        True,
    ),
    "something new": Case(
        "Unable to negotiate with 10.0.0.7 port 22: no matching host key type found. Their offer: ssh-dss\r\n",
        "no connection to jetson-01 (jetson-01.lab:2222): Unable to negotiate with 10.0.0.7 port 22: no matching host "
        "key type found. Their offer: ssh-dss",
    ),
    "nothing": Case("", "no connection to jetson-01 (jetson-01.lab:2222): ssh said nothing"),
}


def profile(known_hosts: str = "/bench/known_hosts") -> Profile:
    target = Target(
        kind="ssh", user="robot", port=2222, identity_file="/bench/key", jump="gateway", known_hosts=known_hosts
    )
    return Profile(name="bench", target=target, boards=(Board(id="jetson-01", host="jetson-01.lab"),))


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_what_ssh_says_becomes_one_sentence_and_a_remedy(case: Case) -> None:
    error = explain(profile(), case.words)
    assert case.message in str(error)
    assert error.remedy
    assert isinstance(error, BoardError)
    assert isinstance(error, UnreachableError) is case.later
    assert "\n" not in str(error)
    assert "\r" not in str(error)


def test_the_pinned_fingerprint_is_shown_beside_the_offered_one(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFXtZ1q4VbFmEwZtJ7z3s4Xc0iWwA1oUjJq3n4m6q0aB"
    file.write_text(f"jetson-01 {key}\n")
    assert "pinned is SHA256:" in str(explain(profile(str(file)), CHANGED))


def test_silence_is_told_with_the_time_that_was_waited() -> None:
    error = explain(profile(), "", late=True)
    assert "did not let us in within 10 s" in str(error)
    assert isinstance(error, UnreachableError)


def test_a_shell_that_runs_nothing_is_told_in_its_words() -> None:
    error = explain(profile(), "", said=b"This account is currently not available.\n")
    assert "its shell does not run commands: This account is currently not available." in str(error)


def test_the_last_words_are_the_last_that_explain_something() -> None:
    assert last_line("one\r\nTimeout, server 10.0.0.7 not responding.\r\nKilled by signal 15.\r\n\r\n") == (
        "Timeout, server 10.0.0.7 not responding."
    )
    assert last_line("Killed by signal 15.\r\n") == "Killed by signal 15."
    assert last_line("") == ""
