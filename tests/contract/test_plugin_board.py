"""The fixtures' objects for a board: its console behind a real capture, its shell on each kind of target."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from roboticks_tasks.errors import BoardError, ConfigError, TargetError
from roboticks_tasks.events import Commanded, read_events
from roboticks_tasks.lifecycle.support.heartbeat import Beating
from roboticks_tasks.models import Capture
from roboticks_tasks.profiles import Board, Profile
from roboticks_tasks.profiles.values import Console as Port
from roboticks_tasks.pytest_plugin import console_text
from roboticks_tasks.pytest_plugin.console_text import Console
from roboticks_tasks.pytest_plugin.here import Here
from roboticks_tasks.pytest_plugin.shell import Shell
from roboticks_tasks.redaction import NOTHING, Redactor
from roboticks_tasks.serial_console.captures import start_capture, stop_capture
from roboticks_tasks.state import RunState
from roboticks_tasks.targets import Completed
from roboticks_tasks.targets.lending import lending, open_shared
from roboticks_tasks.targets.local import LocalTarget
from roboticks_tasks.targets.serial import open_serial
from tests.contract.pty_board import profile_of, running_board
from tests.contract.targets import OPENERS
from tests.contract.terminals import Terminal, own_folder


@pytest.fixture(autouse=True)
def private(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with own_folder(monkeypatch) as folder:
        yield folder


def here_in(folder: Path, profile: Profile | None = None, redactor: Redactor = NOTHING) -> Here:
    run = RunState(run_id="r", profile="p", started_at="2026-01-01T00:00:00Z")
    return Here(folder, run, profile or Profile(name="p", boards=(Board(id="board-1"),)), redactor)


def commands(folder: Path) -> list[Commanded]:
    return [each for each in read_events(folder / "tests.jsonl") if isinstance(each, Commanded)]


# --- the console ------------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "usb-board-0")
    yield terminal
    terminal.unplug()


@pytest.fixture
def capture(terminal: Terminal, tmp_path: Path, private: Path) -> Iterator[Capture]:
    redactor = Redactor(["correct horse"])
    capture = start_capture(Port(port=str(terminal.path)), log=tmp_path / "console.log", redactor=redactor, size=2000)
    yield capture
    stop_capture(capture)


@pytest.fixture
def console(terminal: Terminal, capture: Capture) -> Iterator[Console]:
    one = Console(Port(port=str(terminal.path)), capture, board="board-1", is_shell=False)
    yield one
    one.close()


def test_what_a_board_says_is_expected_line_by_line(console: Console, terminal: Terminal) -> None:
    terminal.say(b"temperature: 42\r\nready\r\n")
    assert console.expect(r"^temperature: (\d+)$")[1] == "42"
    console.expect("^ready$")
    assert console.seen == "temperature: 42\nready\n"


def test_a_prompt_without_an_end_of_line_is_found(console: Console, terminal: Terminal) -> None:
    terminal.say("Grüße, login: ".encode())
    assert console.expect("(.*), login: $")[1] == "Grüße"


def test_the_same_words_are_not_found_twice(console: Console, terminal: Terminal) -> None:
    begin = console.position
    terminal.say(b"ready\r\nready\r\n")
    console.expect("ready", since=0)
    console.expect("ready")
    with pytest.raises(AssertionError, match=r"'ready' did not come on the console of board board-1 within 0\.05 s"):
        console.expect("ready", timeout=0.05)
    assert console.expect("ready", since=begin)


def test_what_was_said_before_the_test_is_not_found(console: Console, terminal: Terminal) -> None:
    terminal.say(b"panic\r\n")
    console.expect("panic")
    console.begin()
    assert console.seen == ""
    with pytest.raises(AssertionError, match="it said nothing"):
        console.expect("panic", timeout=0.05)


def test_an_error_shows_what_the_board_has_said_instead_without_secrets(console: Console, terminal: Terminal) -> None:
    terminal.say(b"oops, correct horse\r\n")
    console.expect("oops", since=0)
    console.expect(r"\*\*\*\n")
    with pytest.raises(AssertionError) as caught:
        console.expect("ready", timeout=0.05, since=0)
    assert str(caught.value).endswith("it said:\noops, ***\n")


def test_a_log_that_is_put_aside_is_followed_into_the_next_one(
    console: Console, terminal: Terminal, tmp_path: Path
) -> None:
    for number in range(100):
        terminal.say(b"line %d is a long one\r\n" % number)
        console.expect(f"line {number} is")
    assert (tmp_path / "console.log.1").exists()


def test_memory_is_bounded(console: Console, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_text, "MOST", 50)
    for number in range(20):
        terminal.say(b"line %d\r\n" % number)
        console.expect(f"line {number}$")
    assert len(console.seen) <= 50
    console.expect("line 19", since=0)


def test_what_is_typed_arrives(console: Console, terminal: Terminal) -> None:
    console.send("ab")
    console.send_line("c")
    assert terminal.hear(4) == b"abc\r"


def test_nobody_types_where_the_target_has_its_shell(terminal: Terminal, capture: Capture) -> None:
    console = Console(Port(port=str(terminal.path)), capture, board="board-1", is_shell=True)
    with pytest.raises(BoardError, match="the run has its shell there; use the fixture `target`"):
        console.send_line("reboot")
    console.close()


def test_an_end_of_the_capture_ends_the_wait_and_nothing_opens_the_port(console: Console, capture: Capture) -> None:
    stop_capture(capture)
    for use in (lambda: console.expect("ready", timeout=60), lambda: console.send("x")):
        with pytest.raises(BoardError, match=r"console of board board-1 is not captured any more; see console\.log"):
            use()


# --- the shell --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=OPENERS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    with OPENERS[request.param]() as target:
        yield Shell(target, here_in(tmp_path, redactor=Redactor(["correct horse"])))


def test_commands_and_files_go_over_every_target_and_are_noted(shell: Shell, tmp_path: Path) -> None:
    path = f"{tmp_path}/file"
    assert shell.run(["printf", "%s", "a  b"]).stdout == b"a  b"
    assert shell.run("echo $((1 + 1)); echo correct horse >&2").text == "2"
    assert shell.run("exit 4", check=False).exit_code == 4
    with pytest.raises(AssertionError) as caught:
        shell.run("echo out; echo err >&2; exit 3")
    assert str(caught.value) == (
        "`echo out; echo err >&2; exit 3` ended with 3 on board board-1\nstdout: out\nstderr: err"
    )
    shell.put(bytes(range(256)), path, mode=0o600)
    assert shell.get(path) == bytes(range(256))
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    with pytest.raises(AssertionError, match=r"cannot be had: it has 256 bytes, more than 255"):
        shell.get(path, most=255)
    with pytest.raises(AssertionError, match="none of board board-1 cannot be had: there is no such file"):
        shell.get(f"{tmp_path}/none")
    noted = commands(tmp_path)
    assert [(each.command, each.exit_code) for each in noted[:5]] == [
        ("printf %s 'a  b'", 0),
        ("echo $((1 + 1)); echo *** >&2", 0),
        ("exit 4", 4),
        ("echo out; echo err >&2; exit 3", 3),
        (f"put 256 bytes to {path}", 0),
    ]
    assert noted[1].output == "2\n***\n"
    assert all("test_commands_and_files_go_over_every_target" in (each.nodeid or "") for each in noted)


def test_a_command_that_takes_too_long_is_noted_without_an_exit_code(tmp_path: Path) -> None:
    shell = Shell(LocalTarget(), here_in(tmp_path))
    with pytest.raises(TargetError, match=r"did not end within 0\.05 s"):
        shell.run("sleep 60", timeout=0.05)
    [noted] = commands(tmp_path)
    assert (noted.exit_code, noted.command) == (None, "sleep 60")
    assert "did not end within" in noted.output


class Rebooting:
    """A board that is away for some commands when it is told to reboot."""

    def __init__(self, boots: Sequence[str | None], *, order: Completed | None = None) -> None:
        self._boots = list(boots)
        self._order = order
        self.told: list[str] = []

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        if argv[0] == "cat":
            boot = self._boots.pop(0) if len(self._boots) > 1 else self._boots[0]
            if boot is None:
                raise TargetError("it is away")
            return Completed(0, boot.encode(), b"")
        self.told.append(argv[-1])
        if self._order is None:
            raise TargetError("the connection was lost")
        return self._order


def rebooting(folder: Path, board: Rebooting, *, timeout: float | None = 20.0, kind: str = "ssh") -> Shell:
    profile = here_in(folder).profile
    target = msgspec.convert({"kind": kind, "reboot_timeout": timeout}, type(profile.target))
    return Shell(board, here_in(folder, msgspec.structs.replace(profile, target=target)), pause=0.001)


def test_a_reboot_waits_for_another_boot(tmp_path: Path) -> None:
    board = Rebooting(["one", "one", None, None, "two"])
    rebooting(tmp_path, board).reboot()
    assert board.told == ["reboot || sudo -n reboot"]
    assert [(each.command, each.exit_code) for each in commands(tmp_path)] == [("reboot", 0)]


def test_a_board_that_refuses_to_reboot_says_why(tmp_path: Path) -> None:
    board = Rebooting(["one"], order=Completed(1, b"", b"a password is required"))
    with pytest.raises(AssertionError, match="`reboot` ended with 1 on board board-1\nstderr: a password is required"):
        rebooting(tmp_path, board).reboot()


def test_a_board_that_does_not_reboot_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"board board-1 did not give another boot id than one within 0\.05 s"):
        rebooting(tmp_path, Rebooting(["one"]), timeout=0.05).reboot()


@pytest.mark.parametrize(
    ("timeout", "kind", "words"),
    [(None, "ssh", "set `target.reboot_timeout`"), (20.0, "local", "the target is this machine")],
)
def test_a_board_that_must_not_reboot_is_left_alone(
    tmp_path: Path, timeout: float | None, kind: str, words: str
) -> None:
    board = Rebooting(["one"])
    with pytest.raises(ConfigError, match=words):
        rebooting(tmp_path, board, timeout=timeout, kind=kind).reboot()
    assert board.told == []


# --- the console that the run has a shell on --------------------------------------------------------------------------


def test_a_lent_console_is_used_by_several_at_once_and_by_its_owner(tmp_path: Path) -> None:
    with running_board(tmp_path / "board") as board, open_serial(profile := profile_of(board)) as own:
        beats = Beating(own, "/nowhere", seconds=60)
        answers: list[str] = []

        def ask(number: int) -> None:
            with open_shared(profile, tmp_path) as target:
                answers.extend(target.run(["echo", f"{number}-{each}"]).text for each in range(3))

        with lending(profile, tmp_path, beats):
            threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
            for thread in threads:
                thread.start()
            assert beats.run(["echo", "mine"]).text == "mine"
            for thread in threads:
                thread.join()
        assert sorted(answers) == [f"{number}-{each}" for number in range(3) for each in range(3)]
        assert beats.run(["echo", "mine"]).text == "mine"


def test_what_breaks_on_a_lent_console_is_told_to_its_user(tmp_path: Path) -> None:
    with running_board(tmp_path / "board") as board, open_serial(profile := profile_of(board)) as own:
        with lending(profile, tmp_path, own), open_shared(profile, tmp_path) as target:
            with pytest.raises(TargetError, match=r"`sleep 60` did not end within 0\.2 s"):
                target.run(["sleep", "60"], timeout=0.2)
            assert target.run(["cat"], stdin=b"\0\xff" * 9000).stdout == b"\0\xff" * 9000
        with pytest.raises(TargetError, match="the run's own process, which has the board's console, does not answer"):
            target.run(["true"])


def test_a_run_without_an_open_target_opens_one_for_all_who_ask_and_closes_it(tmp_path: Path) -> None:
    with running_board(tmp_path / "board") as board:
        profile = profile_of(board)
        with lending(profile, tmp_path), ThreadPoolExecutor() as pool:
            assert board.phase != "shell"
            with open_shared(profile, tmp_path) as target:
                asked = [pool.submit(target.run, ["echo", str(number)]) for number in range(6)]
                assert [each.result().text for each in asked] == [str(number) for number in range(6)]
        with open_serial(profile) as mine:  # the console is free again
            assert mine.run(["echo", "here"]).text == "here"


def test_an_error_of_the_board_is_one_for_its_user_too(tmp_path: Path) -> None:
    with running_board(tmp_path / "board", firmware="MCU-1") as board:
        profile = profile_of(board, connect_timeout=0.3)
        with lending(profile, tmp_path), open_shared(profile, tmp_path) as target, pytest.raises(BoardError):
            target.run(["true"])


def test_where_everybody_can_connect_nothing_is_lent(tmp_path: Path, private: Path) -> None:
    profile = Profile(name="p")
    with lending(profile, tmp_path), open_shared(profile, tmp_path) as target:
        assert isinstance(target, LocalTarget)
        assert not list(private.rglob("*.target"))
