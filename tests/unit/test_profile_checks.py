"""What no type can say of a profile is said in one sentence: file, line, key, what to do."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboticks_tasks.errors import ConfigError
from roboticks_tasks.profiles import Profile, load_profile
from roboticks_tasks.profiles.lines import key_lines, line_of
from roboticks_tasks.profiles.new import toml

SSH = '[target]\nkind = "ssh"\n'
BOARD = '[[boards]]\nid = "a"\n'
FIRMWARE = (
    '[device_manager]\nkind = "firmware"\n[session]\nrequest = "none"\n'
    '[[boards]]\nid = "a"\nconsole = { port = "/dev/ttyUSB0" }\n'
)


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str, **environ: str) -> Profile:
    Path("board.toml").write_text(text, encoding="utf-8")
    return load_profile("board.toml", environ=environ)


def refusal(text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load(text, **environ)
    return str(refused.value)


def power(settings: str) -> str:
    return f"{BOARD}[boards.power]\n{settings}\n"


def identity(settings: str) -> str:
    return f"{BOARD}identity = {{ {settings} }}\n"


def console(port: str) -> str:
    return f'{BOARD}[boards.console]\nbaudrate = 9600\nport = "{port}"\n'


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (SSH, 2, "`target.kind` is ssh, but no board is named; add [[boards]] with id"),
        (f'{SSH}[[boards]]\nid = "a"\nhost = "h"\n[[boards]]\nid = "b"', 6, "board 'b' has no `host`, and"),
        (f'{BOARD}[target]\nkind = "serial"', 1, "board 'a' has no `console`, and `target.kind` is serial"),
        ('[device_manager]\nkind = "firmware"', 2, "`device_manager.kind` is firmware, but no board is named"),
        (f'{BOARD}[device_manager]\nkind = "firmware"', 1, "board 'a' has no `console`"),
        (f'{FIRMWARE}host = "h"\n{SSH}', 2, "is firmware, which needs `target.kind` local, not ssh"),
        (f"{BOARD}\n{BOARD}", 5, "boards 'a' and 'a' have the same `id`, a"),
        (f'{SSH}{BOARD}host = "h"\n[[boards]]\nid = "b"\nhost = "H"', 8, "boards 'a' and 'b' have the same `host`, h"),
        (
            f'{SSH}port = 23\n{BOARD}host = "h"\n[[boards]]\nid = "b"\nport = 23\nhost = "h"',
            10,
            "have the same `host`, h",
        ),
        (f'{console("/dev/x")}[[boards]]\nid = "b"\nconsole = {{ port = "/dev/x" }}', 8, "the same `console.port`"),
        (identity(""), 3, "the identity of board 'a' says nothing; name one of serial"),
        (identity('command = ["id"]'), 3, "the identity of board 'a' has `command` without `equals`"),
        (identity('serial = "1", equals = "x"'), 3, "the identity of board 'a' has `equals` without `command`"),
        (identity('command = [], equals = "x"'), 3, "`boards[0].identity.command` is an empty command"),
        (power(""), 3, "`boards[0].power` has no command"),
        (power("on = []"), 4, "`boards[0].power.on` is an empty command"),
        (power('on = ["x"]\nsafe = "off"'), 5, "`boards[0].power.safe` is off, but no command switches the board off"),
        (power('off = ["x"]\nsafe = "on"'), 5, "`boards[0].power.safe` is on, but"),
        (power('on = ["x"]\nat_start = "cycle"'), 5, "`boards[0].power.at_start` is cycle, but no command does that"),
        (console("ftp://h:1"), 5, "`boards[0].console.port`: unknown scheme ftp://; expected the path of a device,"),
        (console("socket://h"), 5, "`boards[0].console.port`: socket://h names no host and TCP port"),
        (console("rfc2217://h:x"), 5, "rfc2217://h:x names no host and TCP port"),
        (console("socket://[::1"), 5, "names no host and TCP port"),
        (
            '[device_manager]\nroot = "r"\n[[boards]]\nid = "a"\n[[boards]]\nid = "b"',
            2,
            "2 boards on this machine share the folder r, so they are one; put {board} into",
        ),
        ("[device_manager]\nsource = {}", 2, "`device_manager.source` has neither path nor url"),
        (
            '[device_manager.source]\npath = "x"\nurl = "http://h/x"',
            1,
            "`device_manager.source` has both path and url; name one",
        ),
        (
            '[device_manager]\nflash = ["x"]',
            2,
            "`device_manager.flash` means nothing to a device manager of kind native",
        ),
        ('[device_manager]\ninterpreter = "x"', 2, "`device_manager.interpreter` means nothing"),
        ('[device_manager]\nbindings = { module = "x" }', 2, "`device_manager.bindings` means nothing"),
        (
            '[device_manager]\nkind = "simulated"\nsource = { path = "x" }',
            3,
            "`device_manager.source` means nothing to a device manager of kind simulated",
        ),
        (f'{FIRMWARE}identity = {{ mac = "00:11:22:33:44:55" }}', 8, "board 'a' cannot be asked for its identity: "),
        (FIRMWARE.replace('"none"', '"control"'), 4, "`session.request` is control, but firmware takes no commands"),
        (
            f'{FIRMWARE}[deployment]\npath = "d"',
            9,
            "`deployment.path` is set, but no folder can be brought to firmware",
        ),
        (
            FIRMWARE.replace('"firmware"', '"firmware"\nflash = ["x", "{source}"]'),
            3,
            "`device_manager.flash` writes {source}, but there is no `device_manager.source`",
        ),
        (
            FIRMWARE.replace('"firmware"', '"firmware"\nwatchdog = 10'),
            3,
            "`device_manager.watchdog` means nothing to a dev",
        ),
        (
            "[device_manager]\nwatchdog = 2.5",
            2,
            "`device_manager.watchdog` is 2.5 s, in which a healthy run may not be",
        ),
        (FIRMWARE.replace('"firmware"', '"firmware"\nflash = []'), 3, "`device_manager.flash` is an empty command"),
        ('[target.login]\nlogin_prompt = "("', 2, "`target.login.login_prompt` is not a regular expression: "),
        ('[target.login]\npassword_prompt = "*"', 2, "`target.login.password_prompt` is not a regular expression"),
        ('[device_manager.log_patterns]\ndsn = "x"', 2, "`device_manager.log_patterns.dsn` has no group (?P<dsn>…)"),
        ('[device_manager.log_patterns]\nsession = "a{99999999999}(?P<session>)"', 2, "is not a regular expression"),
        (
            'device_manager.registration_pattern = "x"',
            1,
            "`device_manager.registration_pattern` has no group (?P<dsn>…)",
        ),
    ],
)
def test_what_cannot_work_is_named_with_its_line_and_key(text: str, line: int, words: str) -> None:
    sentence = refusal(text)
    assert sentence.startswith(f"profile board.toml, line {line}: ")
    assert words in sentence


@pytest.mark.parametrize(
    "text",
    [
        "",
        f'{SSH}{BOARD}host = "h"',
        f'{SSH}{BOARD}host = "h"\n[[boards]]\nid = "b"\nhost = "h"\nport = 23',
        f'{BOARD}[[boards]]\nid = "b"\n[device_manager]\nroot = "boards/{{board}}"',
        FIRMWARE,
        f'{FIRMWARE}identity = {{ dsn = "D" }}',
        f'{FIRMWARE}[[boards]]\nid = "b"\nconsole = {{ port = "socket://h:1" }}',
        FIRMWARE.replace('"firmware"', '"firmware"\nflash = ["x", "{source}"]\nsource = { path = "x" }'),
        identity('command = ["id"], equals = ""'),
        power('cycle = ["x"]\nat_start = "cycle"'),
        power('off = ["x"]\non = ["x"]\nat_start = "cycle"\nsafe = "off"'),
        power('state = ["x"]'),
        console("rfc2217://[::1]:2217?logging=debug"),
        console("SOCKET://h:1"),
        console("pty"),
        '[device_manager]\nkind = "bindings"\ninterpreter = "python3"\nbindings = { module = "x" }',
        '[device_manager.log_patterns]\ndsn = "[[a](?P<dsn>.)"',
    ],
)
def test_what_can_work_is_not_refused(text: str) -> None:
    load(text)


def test_a_variable_that_makes_boards_one_is_named_instead_of_a_line() -> None:
    text = f'{BOARD}[[boards]]\nid = "b"\n[device_manager]\nroot = "boards/{{board}}"'
    sentence = refusal(text, ROBOTICKS_ROOT="/srv")
    assert sentence.startswith("environment variable ROBOTICKS_ROOT: profile board.toml: 2 boards on this machine")


def test_an_option_that_plays_a_part_is_named_too() -> None:
    load(BOARD)
    with pytest.raises(ConfigError, match=r"^option for target\.kind: profile board\.toml: board 'a' has no `host`"):
        load_profile("board.toml", environ={}, overrides={"target.kind": "ssh"})


def test_a_variable_that_mends_the_file_is_enough() -> None:
    text = f'{BOARD}[[boards]]\nid = "b"\n[device_manager]\nroot = "one"'
    assert load(text, ROBOTICKS_ROOT="/srv/{board}").device_manager.root == "/srv/{board}"


def test_each_board_has_its_own_folder_below_the_same_working_directory(tmp_path: Path) -> None:
    load(f'{BOARD}[[boards]]\nid = "b"\n[device_manager]\nroot = "boards/{{board}}"')
    profile = load_profile("board.toml", environ={}, board="b")
    assert profile.device_manager.root == str(tmp_path / "boards" / "b")
    assert [board.id for board in profile.boards] == ["b"]


def test_an_unknown_board_is_answered_with_the_nearest_one() -> None:
    load('[[boards]]\nid = "jetson-01"')
    with pytest.raises(ConfigError, match=r"profile 'board' has no board 'jetson-1'; did you mean jetson-01\?"):
        load_profile("board.toml", environ={}, board="jetson-1")


# --- lines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{BOARD}[[boards]]\nid = 7", "line 4: `boards[1].id`: expected `str`"),
        (f'{BOARD}hots = "x"', "line 3: unknown key `boards[0].hots`; did you mean `host`?"),
        (f"{BOARD}[[boards]]\nid = 'b'\n[boards.console]\nprt = 'x'", "line 6: unknown key `boards[1].console.prt`"),
        (f'{BOARD}console = {{ prot = "x" }}', "line 3: unknown key `boards[0].console.prot`; did you mean `port`?"),
        ('boards = [\n  { id = "a" },\n  { id = "b", hst = "x" },\n]', "line 3: unknown key `boards[1].hst`; did"),
        (f"{BOARD}[[boards]]\nhost = 'x'", "line 3: `boards[1].id` is missing"),
        (f"{BOARD}console = {{ baudrate = 9600 }}", "line 3: `boards[0].console.port` is missing"),
        (f'{BOARD}[boards.power]\non = [\n  "a",\n  3,\n]', "line 6: `boards[0].power.on[1]`: expected `str`"),
        ('description = """\n[tests]\ntimeout = 0\n"""\n[tests]\ntimeout = 0', "line 6: `tests.timeout`: expected"),
        ('[[boards]] # ]\n"id" = "a" # "\nport = 0', "line 3: `boards[0].port`: expected `int` >= 1"),
    ],
)
def test_the_line_is_that_of_the_right_board(text: str, expected: str) -> None:
    assert refusal(text).startswith(f"profile board.toml, {expected}")


def paths(value: Any, place: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    """Return the place of everything in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {place, *(each for key, inner in items for each in paths(inner, (*place, key)))}


TEXT = '''\
title = "a = [1]" # [x]
'quoted "key"'.b = {c = 1, "d.e" = [{f = 1979-05-27 07:32:00}, {f = 1.5}]}
"tab\\tkey" = """
[no.table]
quotes ""\\""""
lit = \'\'\'x = 1
[[y]]\'\'\'\'
[a.b]
c = -1e3
[[a.list]]
x = [ # why
  [1, 2],

  [],
]
[a.list.sub]
y = ""
[[a.list]]
[[a.list.inner]]
z = true
'''


def test_every_key_of_a_document_has_the_line_that_sets_it() -> None:
    document = tomllib.loads(TEXT)
    lines = key_lines(TEXT)
    assert set(lines) == paths(document) - {()}
    assert lines['quoted "key"', "b", "d.e", 1, "f"] == 2
    assert lines["tab\tkey",] == 3
    assert lines["lit",] == 6
    assert lines["a", "b", "c"] == 9
    assert lines["a", "list", 0, "x", 1] == 14
    assert lines["a", "list", 0, "sub", "y"] == 17
    assert lines["a", "list", 1, "inner", 0, "z"] == 20
    assert line_of(TEXT, ("a", "list", 1, "inner", 0, "nowhere", 3)) == 19
    assert line_of(TEXT, ("nowhere",)) is None


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_no_text_in_a_value_shifts_a_line(values: list[str]) -> None:
    text = "\n".join(f"[[boards]]\nid = {toml(value)} # [x]\nlist = [{toml(value)},\n  1]" for value in values)
    assert len(tomllib.loads(text)["boards"]) == len(values)
    lines = key_lines(text)
    for index in range(len(values)):
        assert lines["boards", index, "id"] == 4 * index + 2
        assert lines["boards", index, "list", 1] == 4 * index + 4
