"""`profiles new`: a shipped profile with its comments, and somebody's own values in it."""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboticks_tasks.board_commands import new_profile
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.profiles import Profile, load_profile
from roboticks_tasks.profiles.files import ENVIRONMENT, read_profile, shipped_profiles
from roboticks_tasks.profiles.new import TomlValue, fill, toml
from roboticks_tasks.profiles.schema import SCHEMA_FILE, profile_schema

BOARDS = ["jetson", "microcontroller", "raspberry-pi", "x86"]
EXAMPLE = re.compile(r"# (?P<line>\[+[\w.]+\]+( .*)?|\w+ = .*)")
OPTIONS = (
    "kind", "host", "port", "user", "console", "baudrate", "board", "identity", "power_on", "power_off", "power_state",
    "root", "backend",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.stdin", Stdin(terminal=False))


class Stdin:
    """What a person types, or nobody."""

    def __init__(self, *lines: str, terminal: bool = True) -> None:
        self.terminal = terminal
        self.lines = list(lines)

    def isatty(self) -> bool:
        return self.terminal

    def readline(self) -> str:
        assert self.terminal, "nobody is there to be asked"
        return f"{self.lines.pop(0)}\n" if self.lines else ""


def run(name: str = "mine", *, force: bool = False, **given: object) -> int:
    options = {option: given.pop(option, None) for option in OPTIONS}
    assert not given
    return new_profile.new_profile(argparse.Namespace(name=name, force=force, **options))


def written(name: str = "mine", **given: Any) -> Profile:
    assert run(name, **given) == 0
    return load_profile(name, environ={})


def template(kind: str) -> str:
    return shipped_profiles()[kind].read_text(encoding="utf-8")


def all_examples(text: str) -> str:
    """Return a profile with everything in use that stands there as an example."""
    return "\n".join(match["line"] if (match := EXAMPLE.fullmatch(line)) else line for line in text.split("\n"))


# --- the shipped profiles ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BOARDS)
def test_every_example_in_a_shipped_profile_can_be_used_as_it_stands(kind: str) -> None:
    text = all_examples(template(kind))
    assert len(tomllib.loads(text)["boards"][0]["power"]) >= 4
    jsonschema.validate(tomllib.loads(text), json.loads(profile_schema()))
    (board,) = read_profile(text, Path("x.toml")).boards
    assert board.power is not None
    assert board.console is not None
    assert board.identity is not None


@pytest.mark.parametrize("kind", BOARDS)
def test_each_key_of_a_shipped_profile_is_explained(kind: str) -> None:
    """All but a few that the line before or their name explains."""
    obvious = re.compile(r"(# )?(description|on|off|state|port|flash) = ")
    for line in template(kind).split("\n"):
        if re.match(r"(# )?\w+ = ", line) and not obvious.match(line):
            assert re.search(r"  # \S", line), line


@pytest.mark.parametrize("kind", BOARDS)
def test_what_a_newcomer_fills_in_comes_within_the_first_screen(kind: str) -> None:
    lines = template(kind).split("\n")
    assert len(lines) <= 55
    places = [
        next(n for n, line in enumerate(lines) if re.match(rf"(# )?{key} = ", line)) for key in ("id", "identity")
    ]
    assert max(places) < 25


# --- values in a template ---------------------------------------------------------------------------------------------


@given(st.text(), st.text(min_size=1))
def test_any_text_survives_as_a_value(text: str, word: str) -> None:
    values: dict[str, TomlValue] = {
        "description": text,
        "boards.features": [text, word],
        "boards.identity": {"serial": word},
    }
    document = tomllib.loads(fill(template("jetson"), values))
    assert document["description"] == text
    assert document["boards"][0]["features"] == [text, word]
    assert document["boards"][0]["identity"] == {"serial": word}


def test_text_that_no_file_can_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'\\udcff' is not UTF-8"):
        toml("\udcff")


@pytest.mark.parametrize("kind", BOARDS)
def test_only_the_lines_of_given_values_change_and_their_comments_stay(kind: str) -> None:
    before = template(kind).split("\n")
    after = fill(template(kind), {"boards.id": "b-7", "boards.power.off": ["relay", "0"]}).split("\n")
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == 3
    assert changed[0][1].startswith('id = "b-7"  ')
    assert changed[0][1].endswith("  # its name in your lab")
    assert changed[1][1].split() == changed[1][0].removeprefix("# ").split()
    assert changed[1][1].startswith("[boards.power] ")
    assert {line.index("# ", 2) for pair in changed[:2] for line in pair} == {50}
    assert changed[2][1] == 'off = ["relay", "0"]'


def test_of_several_boards_in_a_template_only_the_first_is_filled_in() -> None:
    board = '[[boards]]\nid = "a"\n# [boards.power]\n# on = ["x"]\n'
    assert fill(board + board, {"boards.power.on": ["y"]}) == (
        '[[boards]]\nid = "a"\n[boards.power]\non = ["y"]\n' + board
    )


def test_a_key_that_the_kind_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a profile of this kind has no `boards\.host`"):
        run(kind="microcontroller", host="h")


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*BOARDS, "sim", "runner"])
def test_each_kind_makes_a_profile_that_loads_without_a_question(kind: str) -> None:
    profile = written(kind=kind)
    assert profile.name == "mine"
    assert [board.id for board in profile.boards] == (["mine"] if kind in BOARDS else [])
    assert Path("hardware_profiles", SCHEMA_FILE).read_text() == profile_schema()


def test_without_a_host_the_boards_own_name_is_its_address() -> None:
    (board,) = written(kind="jetson", board="orin-3").boards
    assert (board.id, board.host) == ("orin-3", "orin-3")


def test_every_option_sets_its_key() -> None:
    profile = written(
        kind="jetson",
        host="10.0.0.7",
        port=2222,
        user="robot",
        console="/dev/ttyUSB3",
        baudrate=9600,
        board="orin-3",
        identity="mac=00:11:22:33:44:55",
        power_on="pdu 'outlet 3' on",
        power_off="pdu off",
        power_state="pdu state",
        root="/srv/robot",
        backend="local",
    )
    (board,) = profile.boards
    assert (board.id, board.host, board.port, profile.target.user) == ("orin-3", "10.0.0.7", 2222, "robot")
    assert board.console is not None
    assert (board.console.port, board.console.baudrate) == ("/dev/ttyUSB3", 9600)
    assert board.identity is not None
    assert (board.identity.mac, board.identity.serial) == ("00:11:22:33:44:55", None)
    assert board.power is not None
    assert board.power.on == ("pdu", "outlet 3", "on")
    assert (board.power.off, board.power.state) == (("pdu", "off"), ("pdu", "state"))
    assert (profile.device_manager.root, profile.backend) == ("/srv/robot", "local")


def test_the_next_commands_are_shown_with_the_new_name(capsys: pytest.CaptureFixture[str]) -> None:
    run("bench-7", kind="x86")
    shown = capsys.readouterr().out
    assert "  roboticks-tasks enroll --profile bench-7\n  roboticks-tasks doctor --profile bench-7\n" in shown
    text = Path("hardware_profiles/bench-7.toml").read_text()
    assert "`roboticks-tasks enroll --profile bench-7`" in text
    assert "--profile x86" not in text


def test_a_board_without_ssh_has_nothing_to_enroll(capsys: pytest.CaptureFixture[str]) -> None:
    run(kind="microcontroller")
    shown = capsys.readouterr().out
    assert "doctor --profile mine" in shown
    assert "enroll" not in shown


def test_an_existing_file_is_only_replaced_by_force() -> None:
    run(kind="jetson")
    path = Path("hardware_profiles/mine.toml")
    path.write_text('description = "my work"')
    with pytest.raises(ConfigError, match=r"hardware_profiles/mine\.toml is there already; choose .*--force"):
        run(kind="x86")
    assert path.read_text() == 'description = "my work"'
    assert run(kind="x86", force=True) == 0
    assert "Industrial PC" in path.read_text()


def test_a_schema_that_is_there_is_left_alone() -> None:
    Path("hardware_profiles").mkdir()
    Path("hardware_profiles", SCHEMA_FILE).write_text("{}")
    run(kind="jetson")
    assert Path("hardware_profiles", SCHEMA_FILE).read_text() == "{}"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"port": 70000}, r"`boards\[0\]\.port`: expected `int` <= 65535; nothing was written"),
        ({"identity": "mac=nonsense"}, r"`boards\[0\]\.identity\.mac`: expected"),
        ({"identity": "colour=red"}, r"--identity colour=red; expected serial=…, mac=… or dsn=…"),
        ({"identity": "serial="}, r"--identity serial=; expected"),
        ({"power_on": "pdu 'on"}, r"--power-on pdu 'on: No closing quotation"),
        ({"power_on": ""}, r"`boards\[0\]\.power\.on` is an empty command"),
        ({"baudrate": 9600}, r"`boards\[0\]\.console\.port` is missing"),
        ({"console": "ftp://h"}, r"unknown scheme ftp://"),
        ({"user": "\udcff"}, "is not UTF-8"),
        ({"kind": "jetsno"}, r"there is no kind 'jetsno'; use --kind with one of jetson, microcontroller"),
        ({"kind": None}, r"the kind of hardware is not given; use --kind"),
    ],
)
def test_what_cannot_be_used_is_not_written(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run(**{"kind": "jetson", **given})
    assert not Path("hardware_profiles").exists()


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", ".hidden", "mine.toml", "a" * 64, "x\n"])
def test_a_name_that_no_profile_can_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a profile"):
        run(name, kind="jetson")


def test_a_folder_that_cannot_be_made_is_named() -> None:
    Path("hardware_profiles").write_text("a file")
    with pytest.raises(ConfigError, match=r"hardware_profiles/mine\.toml cannot be written: "):
        run(kind="jetson")
    assert Path("hardware_profiles").read_text() == "a file"


def test_an_edited_profile_of_the_same_name_as_a_kind_is_not_the_template() -> None:
    Path("hardware_profiles").mkdir()
    Path("hardware_profiles/jetson.toml").write_text('description = "my own"')
    assert written(kind="jetson").description == "NVIDIA Jetson on the bench, over SSH"


# --- questions --------------------------------------------------------------------------------------------------------


def test_on_a_terminal_what_is_missing_is_asked_and_enter_takes_the_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Stdin("raspberry-pi", "pi-7", "", "robot"))
    profile = written()
    (board,) = profile.boards
    assert (board.id, board.host, profile.target.user) == ("pi-7", "pi-7", "robot")
    shown = capsys.readouterr().out
    assert "kind of hardware (jetson, microcontroller, raspberry-pi, runner, sim, x86) [jetson]: " in shown
    assert "its host name or address [pi-7]: " in shown


def test_what_is_given_or_means_nothing_to_the_kind_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Stdin("", "/dev/ttyACM0"))
    (board,) = written("esp", kind="microcontroller").boards
    assert board.console is not None
    assert (board.id, board.console.port) == ("esp", "/dev/ttyACM0")
    run("pc", kind="x86", board="pc", host="h", user="u")
    assert "[u]" not in capsys.readouterr().out


def test_an_input_that_ends_takes_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Stdin())
    (board,) = written("lab-x86-2").boards
    assert board.host == "lab-x86-2"
    assert "Industrial PC" in Path("hardware_profiles/lab-x86-2.toml").read_text()
