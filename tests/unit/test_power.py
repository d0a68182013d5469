"""The power of a board: what is run, what is read back, and what is said when a command does not do its work."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from roboticks_tasks.boards import power
from roboticks_tasks.boards.power import ensure_on, make_safe, read_state, switch
from roboticks_tasks.errors import BoardError
from roboticks_tasks.profiles import Board
from tests.conditions import until


class Relay:
    """A relay whose state is the content of a file; every command is noted."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.log = folder / "log"
        self.state.write_text("off\n")
        self.log.touch()

    def board(self, **options: object) -> Board:
        """Return a board on it; an option that is None takes a command away."""
        document = {
            "on": ["sh", "-c", f"echo on >>{self.log}; echo on >{self.state}"],
            "off": ["sh", "-c", f"echo off >>{self.log}; echo off >{self.state}"],
            "state": ["sh", "-c", f"cat {self.state}"],
            "off_time": 0,
            **options,
        }
        return msgspec.convert({"id": "jetson-01", "host": "jetson.lab", "power": document}, Board)

    @property
    def commands(self) -> list[str]:
        return self.log.read_text().split()


@pytest.fixture
def relay(tmp_path: Path) -> Relay:
    return Relay(tmp_path)


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "SETTLE", 0.0)


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(BoardError) as refused:
        call()
    assert refused.value.exit_code == 22
    assert refused.value.remedy
    return str(refused.value)


# --- what is done -----------------------------------------------------------------------------------------------------


def test_on_and_off_run_their_command(relay: Relay) -> None:
    switch(relay.board(), "on")
    assert read_state(relay.board()) == "on"
    switch(relay.board(), "off")
    assert read_state(relay.board()) == "off"
    assert relay.commands == ["on", "off"]


def test_a_cycle_is_off_a_moment_and_on(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[tuple[float, list[str]]] = []
    clock = SimpleNamespace(sleep=lambda seconds: slept.append((seconds, relay.commands)))
    monkeypatch.setattr(power, "time", clock)
    switch(relay.board(off_time=7), "cycle")
    assert relay.commands == ["off", "on"]
    assert slept == [(7, ["off"])]


def test_a_cycle_of_its_own_is_preferred(relay: Relay) -> None:
    switch(relay.board(cycle=["sh", "-c", f"echo cycle >>{relay.log}; echo on >{relay.state}"]), "cycle")
    assert relay.commands == ["cycle"]


def test_the_boards_name_and_address_are_filled_in(relay: Relay, tmp_path: Path) -> None:
    switch(
        relay.board(on=["sh", "-c", f'echo "$@" >{tmp_path}/said', "sh", "{board}@{host}", "{other}"], state=None), "on"
    )
    assert (tmp_path / "said").read_text() == "jetson-01@jetson.lab {other}\n"


def test_a_relay_that_takes_a_moment_is_given_it(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "SETTLE", 60.0)
    monkeypatch.setattr(power, "PAUSE", 0.001)
    slow = f"echo x >>{relay.log}; [ $(wc -l <{relay.log}) -gt 3 ] && echo on || echo off"
    switch(relay.board(on=["true"], state=["sh", "-c", slow]), "on")
    assert relay.commands == ["x"] * 4


@pytest.mark.parametrize(
    ("options", "before", "outcome", "commands"),
    [
        ({}, "off", "on", ["on"]),
        ({}, "on", "was on", []),
        ({"state": None}, "on", "on", ["on"]),
        ({"at_start": "cycle"}, "on", "cycled", ["off", "on"]),
        ({"at_start": "cycle", "state": None}, "off", "cycled", ["off", "on"]),
        ({"on": None}, "on", "was on", []),
        ({"on": None, "off": None, "state": None}, "off", None, []),
    ],
)
def test_a_run_begins_with_power(
    relay: Relay, options: dict[str, Any], before: str, outcome: str | None, commands: list[str]
) -> None:
    relay.state.write_text(before)
    assert ensure_on(relay.board(**options)) == outcome
    assert relay.commands == commands


def test_a_board_that_is_off_and_can_only_be_cycled_is_cycled(relay: Relay) -> None:
    assert ensure_on(relay.board(on=None, cycle=["sh", "-c", f"echo on >{relay.state}"])) == "cycled"


def test_a_board_that_is_off_and_cannot_be_switched_on_is_said(relay: Relay) -> None:
    assert "board jetson-01 is off, and `power.on` is not given" in refusal(lambda: ensure_on(relay.board(on=None)))


@pytest.mark.parametrize("before", ["on", "off"])
@pytest.mark.parametrize("safe", ["on", "off"])
def test_the_safe_state_is_restored_and_read_back(relay: Relay, before: str, safe: str) -> None:
    relay.state.write_text(before)
    assert make_safe(relay.board(safe=safe)) == f"power {safe}, read back"
    assert make_safe(relay.board(safe=safe)) == f"power {safe}, read back"
    assert relay.state.read_text() == f"{safe}\n"


def test_a_safe_state_that_cannot_be_read_back_is_told_as_such(relay: Relay) -> None:
    assert make_safe(relay.board(safe="off", state=None)) == "power off, not read back"


def test_without_power_or_a_safe_state_nothing_is_run(relay: Relay) -> None:
    assert make_safe(relay.board()) == "no safe state is named"
    assert relay.commands == []
    plain = Board(id="plain")
    assert make_safe(plain) == "no safe state is named"
    assert ensure_on(plain) is None
    assert read_state(plain) is None
    assert "board plain has no `power`" in refusal(lambda: switch(plain, "on"))


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["sh", "-c", "echo busy; echo hub is gone >&2; exit 3"], "(sh) failed with 3: hub is gone; run the command"),
        (["sh", "-c", "echo hub is gone; exit 3"], "(sh) failed with 3: hub is gone"),
        (["false"], "(false) failed with 1: it said nothing"),
        (["sh", "-c", "kill -9 $$"], "(sh) was ended by signal 9: it said nothing"),
        (["/nowhere/relay"], "(/nowhere/relay) cannot be run: /nowhere/relay: not found; install it"),
        (["/etc/passwd"], "(/etc/passwd) cannot be run: /etc/passwd: Permission denied; install it"),
        ([], "(an empty command) is no command"),
        (["a\0b"], "is no command: embedded null byte"),
    ],
)
def test_a_command_that_fails_is_named_with_its_last_words(relay: Relay, command: list[str], said: str) -> None:
    message = refusal(lambda: switch(relay.board(on=command), "on"))
    assert message.startswith("`power.on` of board jetson-01 (")
    assert said in message


def test_a_command_that_hangs_is_killed_with_its_children(relay: Relay, tmp_path: Path) -> None:
    hangs = ["sh", "-c", f"trap '' TERM; sleep 60 & echo $! >{tmp_path}/pid; wait"]
    message = refusal(lambda: switch(relay.board(off=hangs, timeout=0.5), "off"))
    assert "`power.off` of board jetson-01 (sh) did not end within 0.5 s; " in message
    assert "raise `power.timeout`" in message
    child = int((tmp_path / "pid").read_text())
    until(lambda: not runs(child), "the command's child is gone")


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


@pytest.mark.parametrize(
    ("printed", "state"),
    [
        ("on", "on"), ("OFF", "off"), ("Port 2: Off", "off"), ("outlet 3 = on (12 W)\n", "on"), ("on on", "on"),
    ],
)  # fmt: skip
def test_the_state_is_the_word_on_or_off_in_what_is_printed(relay: Relay, printed: str, state: str) -> None:
    assert read_state(relay.board(state=["printf", "%s", printed])) == state


@pytest.mark.parametrize("printed", ["", "1", "unknown", "office", "port 2 on hub 1: off", "\N{SNOWMAN}", "on\noff"])
def test_a_state_that_is_not_clear_is_an_error_and_not_a_guess(relay: Relay, printed: str) -> None:
    message = refusal(lambda: read_state(relay.board(state=["printf", "%s", printed])))
    assert f"printed {printed!r}, which says not" in message or (not printed and "printed nothing, which" in message)


@pytest.mark.parametrize(("action", "reads"), [("on", "off"), ("off", "on"), ("cycle", "off")])
def test_a_board_that_reads_otherwise_than_it_was_switched_is_said(relay: Relay, action: Any, reads: str) -> None:
    stuck = relay.board(state=["echo", reads])
    expected = "off" if action == "off" else "on"
    assert f"was switched {expected}, but its power still reads {reads}" in refusal(lambda: switch(stuck, action))


def test_a_safe_state_that_was_not_reached_is_an_error(relay: Relay) -> None:
    stuck = relay.board(safe="off", off=["true"], state=["echo", "on"])
    assert "board jetson-01 was switched off, but its power still reads on" in refusal(lambda: make_safe(stuck))


@pytest.mark.parametrize("missing", ["on", "off"])
def test_a_cycle_that_could_not_be_ended_is_not_begun(relay: Relay, missing: str) -> None:
    message = refusal(lambda: switch(relay.board(**{missing: None}), "cycle"))
    assert f"board jetson-01 has no `power.{missing}`" in message
    assert relay.commands == []


def test_a_cycle_that_fails_half_way_is_said(relay: Relay, caplog: pytest.LogCaptureFixture) -> None:
    message = refusal(lambda: switch(relay.board(on=["false"]), "cycle"))
    assert "`power.on` of board jetson-01 (false) failed" in message
    assert "the power cycle of board jetson-01 was cut short: it may be without power" in caplog.text


def test_a_signal_in_the_middle_of_a_cycle_is_said_and_ends_the_command(tmp_path: Path) -> None:
    # The input of the command ends once it is being waited for, so `cat` keeps it from beginning before.
    program = f"""
import logging, msgspec, signal
from roboticks_tasks.boards.power import switch
from roboticks_tasks.profiles import Board
logging.basicConfig()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored
power = {{"off": ["sh", "-c", "cat; echo $$ >{tmp_path}/pid; echo >{tmp_path}/begun; sleep 60"], "on": ["true"]}}
switch(msgspec.convert({{"id": "jetson-01", "power": power}}, Board), "cycle")
"""
    run = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    until((tmp_path / "begun").exists, "the board is being switched off")
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=20)[1]
    assert "the power cycle of board jetson-01 was cut short: it may be without power" in said
    assert said.strip().endswith("KeyboardInterrupt")
    child = int((tmp_path / "pid").read_text())
    until(lambda: not runs(child), "the command is gone")


# --- what is told -----------------------------------------------------------------------------------------------------


def test_what_commands_are_given_and_print_is_told_at_no_ordinary_level(
    relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    switch(relay.board(on=["sh", "-c", "echo s3cret", "--password=s3cret"], state=None), "on")
    message = refusal(lambda: switch(relay.board(on=["sh", "-c", "exit 1", "--password=s3cret"]), "on"))
    late = refusal(lambda: switch(relay.board(on=["sleep", "60", "--password=s3cret"], timeout=0.05), "on"))
    assert [each.message for each in caplog.records] == ["board jetson-01: power on"] * 3
    assert "s3cret" not in caplog.text + message + late


def test_commands_have_no_terminal_and_no_input(relay: Relay) -> None:
    asks = ["sh", "-c", "read password && exit 0; exit 7"]
    assert "failed with 7" in refusal(lambda: switch(relay.board(on=asks), "on"))


def test_commands_run_in_a_session_of_their_own(relay: Relay, tmp_path: Path) -> None:
    switch(relay.board(on=["sh", "-c", f"cut -d' ' -f1,6 /proc/$$/stat >{tmp_path}/session"], state=None), "on")
    pid, session = map(int, (tmp_path / "session").read_text().split())
    assert session == pid != os.getsid(0)
