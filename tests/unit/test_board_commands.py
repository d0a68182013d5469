"""`enroll` pins only what somebody has vouched for; `power` switches one board that nobody else has."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from roboticks_tasks import targets
from roboticks_tasks.board_commands import enrollment, power
from roboticks_tasks.boards import lease
from roboticks_tasks.boards.quarantine import note_failure, parked
from roboticks_tasks.errors import BoardError, BoardInUseError, ConfigError, RoboticksError, TargetError
from roboticks_tasks.profiles import Profile, board_of, load_profile
from roboticks_tasks.profiles.files import ENVIRONMENT
from roboticks_tasks.targets import identity

PROFILE = '[target]\nkind = "ssh"\n[[boards]]\nid = "a"\nhost = "host-a"\n'
SECOND = '[[boards]]\nid = "b"\nhost = "host-b"\n'


class Key(NamedTuple):
    kind: str
    fingerprint: str
    line: str = ""


ED, EC = Key("ssh-ed25519", "SHA256:one"), Key("ecdsa-sha2-nistp256", "SHA256:two")
OTHER = Key("ssh-ed25519", "SHA256:other")


class Keys:
    """What each board offers, and what is pinned for it."""

    def __init__(self) -> None:
        self.offers: dict[str, list[Key] | RoboticksError] = {"a": [ED, EC], "b": [OTHER]}
        self.pins: dict[str, list[Key]] = {}

    def offered(self, profile: Profile) -> list[Key]:
        found = self.offers[board_of(profile).id]
        if isinstance(found, RoboticksError):
            raise found
        return found

    def pinned(self, profile: Profile) -> list[Key]:
        return self.pins.get(board_of(profile).id, [])

    def pin(self, profile: Profile, keys: list[Key], *, replace: bool = False) -> None:
        board = board_of(profile).id
        assert replace == (board in self.pins)
        self.pins[board] = list(keys)


@pytest.fixture(autouse=True)
def _bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROBOTICKS_BENCH", str(tmp_path / "bench"))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Keys:
    fake = Keys()
    monkeypatch.setitem(sys.modules, "roboticks_tasks.targets.ssh.host_keys", fake)
    monkeypatch.setattr("roboticks_tasks.targets.ssh.host_keys", fake, raising=False)
    board_says(monkeypatch, {})
    return fake


def board_says(monkeypatch: pytest.MonkeyPatch, answer: dict[str, str] | RoboticksError) -> None:
    """Let a board that is opened say this of itself."""

    @contextmanager
    def open_target(profile: Profile) -> Iterator[str]:
        yield "target"

    def read_identity(profile: Profile, target: Any) -> dict[str, str]:
        assert target == "target"
        if isinstance(answer, RoboticksError):
            raise answer
        return answer

    monkeypatch.setattr(targets, "open_target", open_target)
    monkeypatch.setattr(identity, "read_identity", read_identity)


def answers(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """Let somebody at a terminal type this."""
    stdin = SimpleNamespace(isatty=lambda: True, readline=lambda: line)
    monkeypatch.setattr("sys.stdin", stdin)


def enroll(text: str = PROFILE, **given: Any) -> int:
    Path("p.toml").write_text(text)
    options = {"profile": "p.toml", "board": None, "yes": False, "fingerprint": None, "replace": False, **given}
    return enrollment.enroll(argparse.Namespace(**options))


# --- enroll -----------------------------------------------------------------------------------------------------------


def test_yes_pins_what_the_board_offers_and_shows_where(
    keys: Keys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enroll(yes=True) == 0
    assert keys.pins == {"a": [ED, EC]}
    shown = capsys.readouterr().out
    assert "board a at host-a offers SHA256:one (ssh-ed25519), SHA256:two (ecdsa-sha2-nistp256)" in shown
    assert f"board a is enrolled in {tmp_path}/hardware_profiles/known_hosts" in shown


@pytest.mark.parametrize("fingerprint", ["SHA256:two", "two"])
def test_a_fingerprint_vouches_for_its_own_key_and_no_other(keys: Keys, fingerprint: str) -> None:
    assert enroll(fingerprint=fingerprint) == 0
    assert keys.pins == {"a": [EC]}


@pytest.mark.parametrize("yes", [True, False])
def test_a_fingerprint_that_is_not_offered_is_refused(keys: Keys, yes: bool) -> None:
    with pytest.raises(BoardError, match="board a offers no host key with the fingerprint SHA256:wrong"):
        enroll(fingerprint="SHA256:wrong", yes=yes)
    assert keys.pins == {}


def test_where_nobody_can_be_asked_nothing_is_pinned(keys: Keys) -> None:
    with pytest.raises(ConfigError, match=r"nobody is here .* board a; use --fingerprint SHA256:… .* or --yes"):
        enroll()
    assert keys.pins == {}


@pytest.mark.parametrize("line", ["y\n", "Yes\n"])
def test_somebody_at_a_terminal_can_say_yes(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    answers(monkeypatch, line)
    assert enroll() == 0
    assert keys.pins == {"a": [ED, EC]}
    shown = capsys.readouterr().out
    assert shown.index("SHA256:one") < shown.index("hardware_profiles/known_hosts? yes or no [no]: ")


@pytest.mark.parametrize("line", ["\n", "n\n", "yeah well\n", ""])
def test_anything_but_yes_is_no(keys: Keys, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    answers(monkeypatch, line)
    with pytest.raises(BoardError, match="board a is not enrolled"):
        enroll()
    assert keys.pins == {}


@pytest.mark.parametrize("pinned", [[ED], [EC, ED], [ED, Key("ssh-rsa", "SHA256:no-longer-offered")]])
def test_a_board_that_is_enrolled_is_left_as_it_is(
    keys: Keys, pinned: list[Key], capsys: pytest.CaptureFixture[str]
) -> None:
    keys.pins["a"] = pinned
    assert enroll() == 0
    assert keys.pins["a"] == pinned
    assert "board a is already enrolled" in capsys.readouterr().out


@pytest.mark.parametrize("pinned", [[OTHER], [EC, OTHER], [Key("ssh-rsa", "SHA256:other")]])
@pytest.mark.parametrize("given", [{"yes": True}, {"fingerprint": "SHA256:one"}, {}])
def test_a_changed_key_is_refused_with_both_fingerprints(keys: Keys, pinned: list[Key], given: dict[str, Any]) -> None:
    keys.pins["a"] = pinned
    with pytest.raises(BoardError, match=r"has changed its host key: pinned .*SHA256:other.*, offered .*SHA256:one"):
        enroll(**given)
    assert keys.pins["a"] == pinned


def test_a_changed_key_is_replaced_when_that_is_said_and_vouched_for(keys: Keys) -> None:
    keys.pins["a"] = [OTHER]
    with pytest.raises(ConfigError, match="nobody is here"):
        enroll(replace=True)
    assert enroll(replace=True, yes=True) == 0
    assert keys.pins["a"] == [ED, EC]


def test_a_board_that_offers_nothing_is_refused(keys: Keys) -> None:
    keys.offers["a"] = []
    with pytest.raises(BoardError, match="board a offers no host key;"):
        enroll(yes=True)


def test_each_board_is_enrolled_in_turn(keys: Keys) -> None:
    assert enroll(PROFILE + SECOND, yes=True) == 0
    assert keys.pins == {"a": [ED, EC], "b": [OTHER]}


def test_only_the_named_board_is_enrolled(keys: Keys) -> None:
    assert enroll(PROFILE + SECOND, board="b", fingerprint="SHA256:other") == 0
    assert keys.pins == {"b": [OTHER]}


def test_a_board_that_fails_keeps_no_other_from_it_and_gives_the_exit_code(
    keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.offers["a"] = TargetError("host-a cannot be reached")
    assert enroll(PROFILE + SECOND, yes=True) == TargetError.exit_code
    assert keys.pins == {"b": [OTHER]}
    shown = capsys.readouterr().out
    assert "board a: host-a cannot be reached" in shown
    assert "1 of 2 boards could not be enrolled" in shown


def test_one_fingerprint_is_not_that_of_several_boards(keys: Keys) -> None:
    with pytest.raises(ConfigError, match="--fingerprint is that of one board; name it with --board"):
        enroll(PROFILE + SECOND, fingerprint="SHA256:one")


def test_a_target_without_host_keys_is_said(keys: Keys) -> None:
    with pytest.raises(ConfigError, match="profile 'p' has no host key to pin: its target is local"):
        enroll("")


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"mac": "00:11", "serial": '1"2', "dsn": "D"}, 'identity = { serial = "1\\"2" }'),
        ({"dsn": "D", "mac": "00:11"}, 'identity = { mac = "00:11" }'),
        ({"dsn": "D"}, 'identity = { dsn = "D" }'),
    ],
)
def test_what_the_board_says_of_itself_is_a_line_for_the_profile(
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    said: dict[str, str],
    line: str,
) -> None:
    board_says(monkeypatch, said)
    enroll(yes=True)
    assert f"\n  {line}\n" in capsys.readouterr().out


def test_a_declared_identity_is_not_asked_for(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    board_says(monkeypatch, {"serial": "1"})
    enroll(PROFILE + 'identity = { serial = "2" }', yes=True)
    assert "serial" not in capsys.readouterr().out


def test_a_board_that_says_nothing_of_itself_is_enrolled_all_the_same(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    board_says(monkeypatch, TargetError("Permission denied (publickey)"))
    assert enroll(yes=True) == 0
    assert "what it says of itself could not be read: Permission denied (publickey)" in capsys.readouterr().out


# --- power ------------------------------------------------------------------------------------------------------------

SWITCH = """
[device_manager]
root = "root"
[[boards]]
id = "a"
[boards.power]
on = ["sh", "-c", "echo on >a.state"]
off = ["sh", "-c", "echo off >a.state"]
state = ["cat", "a.state"]
off_time = 0
"""
BLIND = (
    'device_manager.root = "root"\n[[boards]]\nid = "a"\n[boards.power]\non = ["true"]\noff = ["true"]\noff_time = 0\n'
)


def run_power(action: str, text: str = SWITCH, board: str | None = None) -> int:
    Path("p.toml").write_text(text)
    Path("a.state").touch()
    return power.power(argparse.Namespace(action=action, profile="p.toml", board=board))


@pytest.mark.parametrize(("action", "state"), [("on", "on"), ("off", "off"), ("cycle", "on")])
def test_the_board_is_switched_and_its_state_shown(action: str, state: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_power(action) == 0
    assert Path("a.state").read_text() == f"{state}\n"
    assert capsys.readouterr().out == f"a {state}\n"


def test_the_state_is_read_without_switching_anything(capsys: pytest.CaptureFixture[str]) -> None:
    run_power("off")
    run_power("state")
    assert capsys.readouterr().out == "a off\na off\n"
    assert Path("a.state").read_text() == "off\n"


def test_a_state_that_cannot_be_read_back_is_not_claimed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_power("cycle", BLIND) == 0
    assert capsys.readouterr().out == "a switched off and on, which was not read back\n"


def test_a_board_without_power_commands_is_named() -> None:
    with pytest.raises(BoardError, match="board a has no `power`"):
        run_power("on", '[[boards]]\nid = "a"\n')
    with pytest.raises(BoardError, match=r"board a has no `power\.state`"):
        run_power("state", BLIND)


def test_of_several_boards_none_is_switched_unless_it_is_named() -> None:
    second = SWITCH.partition("[[boards]]")[2].replace('"a"', '"b"').replace("a.state", "b.state")
    both = SWITCH.replace('"root"', '"{board}"') + f"[[boards]]{second}"
    with pytest.raises(ConfigError, match=r"names 2 boards \(a, b\); choose one with --board"):
        run_power("off", both)
    assert run_power("off", both, board="b") == 0
    assert (Path("a.state").read_text(), Path("b.state").read_text()) == ("", "off\n")


def test_a_board_that_a_run_has_is_not_switched() -> None:
    run_power("on")
    with lease(load_profile("p.toml"), run=Path("other-run")), pytest.raises(BoardInUseError, match="other-run"):
        run_power("off")
    assert Path("a.state").read_text() == "on\n"


def test_a_parked_board_is_switched_all_the_same() -> None:
    run_power("on", f"quarantine.failures = 1\n{SWITCH}")
    profile = load_profile("p.toml")
    note_failure(profile, "it did not boot")
    assert parked(profile) is not None
    assert run_power("cycle", f"quarantine.failures = 1\n{SWITCH}") == 0
    assert parked(profile) is not None
