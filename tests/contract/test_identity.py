"""A board is asked who it is, in one round trip: the right one passes, another one is named with what it says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from roboticks_tasks.errors import BoardError, ConfigError, TargetError
from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets import Completed
from roboticks_tasks.targets.identity import EVERYTHING, ask, check_identity, compare, read_identity
from roboticks_tasks.targets.local import LocalTarget

TREE = "proc/device-tree/serial-number"
TREE_IN_SYS = "sys/firmware/devicetree/base/serial-number"
PRODUCT = "sys/class/dmi/id/product_serial"
MAINBOARD = "sys/class/dmi/id/board_serial"
CPUINFO = "processor\t: 0\nmodel name\t: ARMv7\n\nHardware\t: BCM2835\nSerial\t\t: 00000000{}\nModel\t: Pi\n"


class Recording:
    """This machine as a target, with a note of what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], bool]] = []

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        self.asked.append((list(argv), repeatable))
        return LocalTarget().run(argv, stdin=stdin, timeout=timeout)


class Machine:
    """The folders of a board, below one of ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registration = folder / "registration.json"

    def write(self, name: str, content: bytes | str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def interface(self, name: str, address: str, *, hardware: bool = False) -> None:
        self.write(f"sys/class/net/{name}/address", f"{address}\n")
        if hardware:
            (self.folder / f"sys/class/net/{name}/device").mkdir()

    def profile(self, **identity: Any) -> Profile:
        board = {"id": "jetson-01", "host": "jetson.lab", "identity": identity}
        manager = {"root": str(self.folder), "registration_file": "{root}/registration.json"}
        document = {"name": "jetson", "target": {"kind": "ssh"}, "boards": [board], "device_manager": manager}
        return msgspec.convert(document, Profile)

    def check(self, **identity: Any) -> None:
        """Compare it with an identity, as `check_identity` does with the folders of a real board."""
        profile = self.profile(**identity)
        wanted = tuple(name for name in (*EVERYTHING, "command") if name in identity)
        compare(profile, ask(profile, LocalTarget(), wanted, prefix=str(self.folder)))

    def refuses(self, **identity: Any) -> str:
        with pytest.raises(BoardError) as refused:
            self.check(**identity)
        assert refused.value.exit_code == 22
        assert refused.value.remedy
        return str(refused.value)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# --- serial numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (TREE, b"0142A\0"),
        (TREE, b"0142a"),
        (TREE, b"\0"),
        (TREE_IN_SYS, b"0142a\0\0"),
        (PRODUCT, b"0142A\n"),
        (MAINBOARD, b"  0142a  \r\n"),
        ("proc/cpuinfo", CPUINFO.format("0142a").encode()),
    ],
)
def test_the_serial_number_is_found_wherever_a_board_keeps_it(machine: Machine, file: str, content: bytes) -> None:
    machine.write(file, content)
    if content == b"\0":
        machine.write(MAINBOARD, "0142a\n")
    machine.check(serial="000000000142a" if file == "proc/cpuinfo" else "0142a")


def test_any_of_several_serial_numbers_will_do(machine: Machine) -> None:
    machine.write(PRODUCT, "of the case\n")
    machine.write(MAINBOARD, "of the mainboard\n")
    machine.check(serial="Of the Case")
    machine.check(serial="of the mainboard")


def test_another_serial_number_is_told_with_the_expected_one(machine: Machine) -> None:
    machine.write(TREE, b"1111\0")
    machine.write(TREE_IN_SYS, b"1111\0")
    machine.write(PRODUCT, b"2222\n")
    assert machine.refuses(serial="0042") == (
        "the board at jetson.lab is not jetson-01: its serial number is 1111 or 2222, expected 0042; "
        "check the address and the wiring; if the board was replaced, change `identity` in the profile"
    )


@pytest.mark.parametrize("expected", ["42", "00042", "042 ", "0042x", "004", "0*", ".*"])
def test_leading_zeros_count_and_nothing_is_a_pattern(machine: Machine, expected: str) -> None:
    machine.write(TREE, b"0042\0")
    assert "its serial number is 0042" in machine.refuses(serial=expected)


def test_a_serial_number_that_cannot_be_read_is_an_error(machine: Machine) -> None:
    assert machine.refuses(serial="0042") == (
        "the board at jetson.lab cannot show that it is jetson-01: its serial number cannot be read; "
        "only root may read it on a PC; name `mac`, or `command` and `equals`, in the board's identity"
    )
    machine.write("proc/cpuinfo", "processor\t: 0\n")
    machine.write(TREE, b"\0")
    (machine.folder / PRODUCT).mkdir(parents=True)
    assert "its serial number cannot be read" in machine.refuses(serial="0042")


# --- addresses --------------------------------------------------------------------------------------------------------


def test_the_address_of_any_interface_will_do_in_any_case(machine: Machine) -> None:
    machine.interface("eth0", "02:aa:bb:cc:dd:01")
    machine.interface("wlan 0", "02:aa:bb:cc:dd:02", hardware=True)
    machine.check(mac="02:AA:bb:CC:dd:01")
    machine.check(mac="02:aa:bb:cc:dd:02")


def test_another_address_is_told(machine: Machine) -> None:
    machine.interface("eth0", "02:aa:bb:cc:dd:01")
    machine.interface("lo", "00:00:00:00:00:00")
    message = machine.refuses(mac="02:aa:bb:cc:dd:ff")
    assert "its MAC address is 02:aa:bb:cc:dd:01, expected 02:aa:bb:cc:dd:ff" in message


def test_a_board_without_any_address_is_an_error(machine: Machine) -> None:
    machine.interface("lo", "00:00:00:00:00:00")
    assert "its MAC address cannot be read; name `serial`" in machine.refuses(mac="02:aa:bb:cc:dd:01")


# --- the registration -------------------------------------------------------------------------------------------------


def test_the_dsn_is_what_the_pattern_finds_in_the_registration_file(machine: Machine) -> None:
    machine.write("registration.json", '{\n  "token": "s3cret",\n  "dsn" : "RBT-1"\n}')
    machine.check(dsn="RBT-1")
    message = machine.refuses(dsn="rbt-1")
    assert "its DSN is RBT-1, expected rbt-1" in message
    assert "s3cret" not in message


@pytest.mark.parametrize("content", [None, "", "{}", '{"dsn": ""}', "\0\xff"])
def test_a_dsn_that_is_not_there_is_an_error(machine: Machine, content: str | None) -> None:
    if content is not None:
        machine.write("registration.json", content)
    assert "its DSN cannot be read; it is cached when the device has registered once" in machine.refuses(dsn="RBT-1")


# --- a command of one's own -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "equals"),
    [
        (["echo", "robot 7"], "robot 7"),
        (["printf", "robot 7"], " robot 7\n"),
        (["printf", "robot 7\\000"], "robot 7"),
        (["printf", "a\\n\\n b\\n"], "a\n\n b"),
        (["printf", "0"], "0"),
        (["true"], ""),
        (["sh", "-c", "cat; echo done"], "done"),
        (["printf", "%s", "{root} {board} {host} {else}"], "/ROOT jetson-01 jetson.lab {else}"),
        (["printf", "%s", "it's $HOME; `id`"], "it's $HOME; `id`"),
    ],
)
def test_what_the_command_prints_is_compared_whole(machine: Machine, command: list[str], equals: str) -> None:
    machine.check(command=command, equals=equals.replace("/ROOT", str(machine.folder)))


@pytest.mark.parametrize(("prints", "told"), [("robot 8", "robot 8"), ("Robot 7", "Robot 7"), ("", "nothing")])
def test_another_answer_is_told(machine: Machine, prints: str, told: str) -> None:
    message = machine.refuses(command=["printf", "%s", prints], equals="robot 7")
    assert f"is not jetson-01: its answer to `identity.command` is {told}, expected robot 7;" in message


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["sh", "-c", "echo robot 7; echo no bus >&2; exit 3"], "failed with 3: no bus; mend `identity.command`"),
        (["sh", "-c", "exit 3"], "failed with 3: it said nothing; mend"),
        (["/nowhere/tool"], "failed with 127: "),
    ],
)
def test_a_command_that_fails_is_an_error_whatever_it_prints(machine: Machine, command: list[str], said: str) -> None:
    message = machine.refuses(command=command, equals="robot 7")
    assert f"cannot show that it is jetson-01: its `identity.command` {said}" in message


def test_a_command_with_nothing_to_compare_is_an_error_of_the_profile(machine: Machine) -> None:
    with pytest.raises(ConfigError, match="the identity of board 'jetson-01' has `command` without `equals`"):
        machine.check(command=["true"])


# --- all together -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, "serial", "mac", "dsn", "equals"])
def test_all_that_is_given_must_match(machine: Machine, wrong: str | None) -> None:
    machine.write(TREE, b"0042\0")
    machine.interface("eth0", "02:aa:bb:cc:dd:01")
    machine.write("registration.json", '{"dsn": "RBT-1"}')
    identity = {"serial": "0042", "mac": "02:aa:bb:cc:dd:01", "dsn": "RBT-1", "command": ["echo", "7"], "equals": "7"}
    if wrong is None:
        machine.check(**identity)
        return
    other = "02:00:00:00:00:ff" if wrong == "mac" else "other"
    assert f"expected {other}" in machine.refuses(**{**identity, wrong: other})


def test_it_is_one_round_trip_that_may_be_repeated_and_changes_nothing(machine: Machine) -> None:
    machine.write("registration.json", '{"dsn": "RBT-1"}')
    before = sorted(machine.folder.rglob("*"))
    target = Recording()
    check_identity(machine.profile(dsn="RBT-1", command=["echo", "7"], equals="7"), target)
    assert [repeatable for _, repeatable in target.asked] == [True]
    assert sorted(machine.folder.rglob("*")) == before


@pytest.mark.parametrize("identity", [None, {}])
def test_where_no_identity_is_declared_nothing_is_run(machine: Machine, identity: dict[str, str] | None) -> None:
    profile = machine.profile()
    if identity is None:
        board = msgspec.structs.replace(profile.boards[0], identity=None)
        profile = msgspec.structs.replace(profile, boards=(board,))
    target = Recording()
    check_identity(profile, target)
    check_identity(Profile(name="sim"), target)
    assert target.asked == []


def test_the_real_machine_is_the_one_that_it_says_it_is_and_no_other(machine: Machine) -> None:
    kernel = Path("/proc/sys/kernel/osrelease").read_text()
    shown = ["cat", "/proc/sys/kernel/osrelease"]
    check_identity(machine.profile(command=shown, equals=kernel), LocalTarget())
    with pytest.raises(BoardError, match=r"is not jetson-01: its answer to `identity.command` is "):
        check_identity(machine.profile(command=shown, equals="another"), LocalTarget())
    with pytest.raises(BoardError):
        check_identity(machine.profile(mac="02:00:00:00:fe:ff"), LocalTarget())


def test_a_board_that_cannot_run_the_question_is_said(machine: Machine) -> None:
    class Broken:
        def run(self, *_: object, **__: object) -> Completed:
            return Completed(127, b"", b"sh: not found")

    with pytest.raises(BoardError, match=r"the board at jetson.lab cannot be asked who it is: sh: not found"):
        check_identity(machine.profile(serial="1"), Broken())


def test_a_link_that_breaks_is_no_other_board(machine: Machine) -> None:
    class Gone:
        def run(self, *_: object, **__: object) -> Completed:
            raise TargetError("the connection was lost")

    with pytest.raises(TargetError, match="the connection was lost"):
        check_identity(machine.profile(serial="1"), Gone())


@pytest.mark.parametrize(
    ("board", "place"),
    [
        ({"host": "jetson.lab"}, "jetson.lab"),
        ({"console": {"port": "/dev/ttyNone0"}}, "/dev/ttyNone0"),
        ({}, "this machine"),
    ],
)
def test_the_board_is_named_by_how_it_is_reached(board: dict[str, Any], place: str) -> None:
    identity = {"command": ["echo", "7"], "equals": "8"}
    profile = msgspec.convert({"boards": [{"id": "a", "identity": identity, **board}]}, Profile)
    with pytest.raises(BoardError, match=f"the board at {place} is not a: "):
        check_identity(profile, LocalTarget())


def test_the_command_gets_nothing_of_what_is_typed_on_a_console(machine: Machine) -> None:
    class Typing:
        def run(self, argv: Sequence[str], **options: Any) -> Completed:
            return LocalTarget().run(argv, stdin=b"robot 8\n", **options)

    check_identity(machine.profile(command=["cat"], equals=""), Typing())


# --- what a board says of itself --------------------------------------------------------------------------------------


def read(machine: Machine) -> dict[str, str]:
    """Read as `read_identity` does, from the machine's own folders."""

    class Prefixed:
        def run(self, argv: Sequence[str], **options: Any) -> Completed:
            assert argv[4] == ""
            return LocalTarget().run([*argv[:4], str(machine.folder), *argv[5:]], **options)

    return read_identity(machine.profile(), Prefixed())


def test_a_board_says_its_numbers_for_a_profile_to_name(machine: Machine) -> None:
    machine.write(TREE, b"0042\0")
    machine.interface("docker0", "02:42:bb:cc:dd:01")
    machine.interface("eth0", "00:aa:bb:cc:dd:02", hardware=True)
    machine.write("registration.json", '{"dsn": "RBT-1"}')
    assert read(machine) == {"serial": "0042", "mac": "00:aa:bb:cc:dd:02", "dsn": "RBT-1"}


@pytest.mark.parametrize(
    "serial", ["None", "To Be Filled By O.E.M.", "Default string", "0000000000000000", " \n", "\0"]
)
def test_what_many_boards_say_is_no_number_to_name(machine: Machine, serial: str) -> None:
    machine.write(PRODUCT, serial)
    machine.interface("lo", "00:00:00:00:00:00", hardware=True)
    machine.interface("veth1", "02:42:bb:cc:dd:01")
    assert read(machine) == {}
    machine.write(MAINBOARD, "0042")
    assert read(machine) == {"serial": "0042"}


def test_an_empty_machine_says_nothing_and_nothing_fails(machine: Machine) -> None:
    assert read(machine) == {}


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_every_shell_of_a_board_understands_the_question(machine: Machine, shell: str, tmp_path: Path) -> None:
    import shutil

    program = shutil.which(shell)
    if program is None:
        program, shell = "/bin/sh", "sh"
    machine.write(TREE, b"0042\0")
    words = [program, "sh"] if shell == "busybox" else [program]

    class Other:
        def run(self, argv: Sequence[str], **options: Any) -> Completed:
            done = LocalTarget().run([*words, *argv[1:4], str(machine.folder), *argv[5:]], **options)
            assert done.stderr == b""
            return done

    assert os.access(program, os.X_OK)
    check_identity(machine.profile(serial="0042", command=["printf", "7\\000"], equals="7"), Other())
