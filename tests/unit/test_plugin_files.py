"""Attachments, the device's certificate and the power: what the fixtures write, read and switch."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import trustme

from roboticks_tasks.errors import ConfigError
from roboticks_tasks.events import Commanded, read_events
from roboticks_tasks.profiles import Board, Profile
from roboticks_tasks.profiles.values import Power
from roboticks_tasks.pytest_plugin import attachments as attachments_module
from roboticks_tasks.pytest_plugin.attachments import Attachments, safe_name
from roboticks_tasks.pytest_plugin.device_facts import Device, read
from roboticks_tasks.pytest_plugin.here import Here
from roboticks_tasks.pytest_plugin.power_switch import PowerSwitch, restoring
from roboticks_tasks.redaction import NOTHING, Redactor
from roboticks_tasks.state import RunState

NODEID = "tests/test_arm.py::TestArm::test_it[../../etc/passwd-\x1b[31m]"

# --- attachments ------------------------------------------------------------------------------------------------------


class Told:
    """What a test was told to have as properties."""

    def __init__(self, run: Path, redactor: Redactor = NOTHING) -> None:
        self.run = run
        self.properties: list[tuple[str, str]] = []
        self.artifacts = Attachments(run, NODEID, redactor=redactor, tell=lambda *each: self.properties.append(each))

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.run / "attachments").glob("*/*"))


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path / "run")


def test_text_bytes_and_files_are_kept_and_told(told: Told, tmp_path: Path) -> None:
    (tmp_path / "plot.png").write_bytes(b"\x89PNG")
    kept = [
        told.artifacts.attach("words"),
        told.artifacts.attach(b"\0\1", "raw.bin"),
        told.artifacts.attach(tmp_path / "plot.png"),
        told.artifacts.attach("{}", "state", "application/json"),
    ]
    assert [(each.name, each.media_type, each.size) for each in kept] == [
        ("text.txt", "text/plain", 5),
        ("raw.bin", "application/octet-stream", 2),
        ("plot.png", "image/png", 4),
        ("state.json", "application/json", 2),
    ]
    assert told.properties == [("roboticks.attach.attachments", each.path) for each in kept]
    assert [(told.run / each.path).stat().st_size for each in kept] == [each.size for each in kept]
    assert {each.path.count("/") for each in kept} == {2}


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "passwd"),
        ("..", "attachment"),
        ("/", "attachment"),
        (".bashrc", "bashrc"),
        ("a\0b\nc.txt", "a-b-c.txt"),
        ("C:\\temp\\log.txt", "log.txt"),
        ("<img src=x onerror=y>.html", "img-src-x-onerror-y.html"),
        ("-rf", "rf"),
        ("x" * 300 + ".txt", "x" * 96 + ".txt"),
        ("ü.txt", "attachment.txt"),
    ],
)
def test_hostile_names_are_made_harmless(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_a_hostile_test_stays_in_the_run(told: Told) -> None:
    path = told.run / told.artifacts.attach("x", "../../../x").path
    assert path.resolve().is_relative_to(told.run.resolve() / "attachments")
    assert path.as_posix().isprintable()


def test_a_name_that_is_taken_gets_a_number(told: Told) -> None:
    names = [told.artifacts.attach(str(number), "log.txt").name for number in range(3)]
    assert names == ["log.txt", "log-2.txt", "log-3.txt"]
    assert [(told.run / value).read_text() for _, value in told.properties] == ["0", "1", "2"]


def test_secrets_are_taken_out_of_what_is_attached(tmp_path: Path) -> None:
    told = Told(tmp_path / "run", Redactor(["correct horse"]))
    (tmp_path / "log").write_bytes(b"x" * 262_140 + b"correct horse" + b"y")
    kept = told.artifacts.attach(tmp_path / "log")
    assert (told.run / kept.path).read_bytes() == b"x" * 262_140 + b"***y"
    assert kept.size == 262_144


def test_what_is_too_large_leaves_nothing(told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments_module, "MOST", 10)
    monkeypatch.setattr(attachments_module, "MOST_OF_TEST", 15)
    artifacts = Attachments(told.run, "test", redactor=NOTHING, tell=lambda *each: None)
    with pytest.raises(ConfigError, match="an attachment has more than 10 bytes; attach the part that matters"):
        artifacts.attach("x" * 11)
    artifacts.attach("x" * 10)
    with pytest.raises(ConfigError, match="more than 5 bytes, which is what is left of 15 for this test"):
        artifacts.attach("x" * 6)
    assert [path.read_text() for path in (told.run / "attachments").glob("*/*")] == ["x" * 10]


def test_what_is_no_file_is_not_waited_for(told: Told, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "none", "."):
        with pytest.raises(ConfigError, match="cannot be attached: there is no such file"):
            told.artifacts.attach(tmp_path / name)
    assert told.files() == []
    assert told.properties == []


# --- the certificate --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pem() -> bytes:
    return trustme.CA().issue_cert("robot.lab", common_name="SIM-1").cert_chain_pems[0].bytes()


@pytest.mark.parametrize("form", ["pem", "der", "chain"])
def test_a_certificate_tells_who_the_device_is(pem: bytes, form: str) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    content = {"pem": pem, "der": ssl.PEM_cert_to_DER_cert(pem.decode()), "chain": b"words\n" + pem + pem}[form]
    truth = x509.load_pem_x509_certificate(pem)
    found = read(content)
    assert (found.subject, int(found.serial, 16)) == ("SIM-1", truth.serial_number)
    assert (found.not_before, found.not_after) == (truth.not_valid_before_utc, truth.not_valid_after_utc)
    assert found.fingerprint == truth.fingerprint(SHA256()).hex().upper()
    assert len(found.serial) % 2 == 0


@pytest.mark.parametrize("content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA"])
def test_what_is_no_certificate_is_told(content: bytes) -> None:
    with pytest.raises(AssertionError, match="the device's certificate cannot be read"):
        read(content)


def test_the_certificate_is_read_once_and_only_when_it_is_asked_for(pem: bytes) -> None:
    asked: list[int] = []

    def content() -> bytes:
        asked.append(1)
        return pem

    device = Device("SIM-1", board_id="board-1", features=("gpu",), read_certificate=content)
    assert (device.dsn, device.board_id, device.features, asked) == ("SIM-1", "board-1", ("gpu",), [])
    assert device.certificate is device.certificate
    assert asked == [1]


# --- power ------------------------------------------------------------------------------------------------------------


class Bench:
    """A board whose power is a file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "power"
        self.file.write_text("on\n")
        self.waits = 0
        write = ("sh", "-c", 'echo "$1" >"$0"', str(self.file))
        power = Power(on=(*write, "on"), off=(*write, "off"), state=("cat", str(self.file)), off_time=0)
        profile = Profile(name="p", boards=(Board(id="board-1", power=power),))
        run = RunState(run_id="r", profile="p", started_at="2026-01-01T00:00:00Z")
        self.here = Here(folder, run, profile, NOTHING)

    @contextmanager
    def switch(self) -> Iterator[PowerSwitch]:
        def wait() -> None:
            self.waits += 1

        with restoring(self.here, wait) as power:
            yield power

    def is_on(self) -> bool:
        return self.file.read_text() == "on\n"


def test_a_board_that_was_on_is_on_again_and_waited_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with bench.switch() as power:
        power.off()
        assert (power.state(), bench.is_on()) == ("off", False)
    assert (bench.is_on(), bench.waits) == (True, 1)
    noted = [each for each in read_events(tmp_path / "tests.jsonl") if isinstance(each, Commanded)]
    assert [(each.command, each.exit_code) for each in noted] == [("power off", 0), ("power on", 0)]


def test_a_board_that_boots_after_a_cycle_is_waited_for_and_not_switched_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with bench.switch() as power:
        power.cycle()
    assert (bench.is_on(), bench.waits) == (True, 1)
    assert len(read_events(tmp_path / "tests.jsonl")) == 1


def test_a_board_that_was_off_is_off_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.file.write_text("off\n")
    with bench.switch() as power:
        power.on()
    assert (bench.is_on(), bench.waits) == (False, 0)


def test_a_test_that_fails_leaves_no_board_without_power(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    def fail() -> None:
        with bench.switch() as power:
            power.off()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert bench.is_on()


def test_a_board_whose_power_nobody_touched_is_left_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with bench.switch() as power:
        assert power.state() == "on"
    assert bench.waits == 0
    assert not (tmp_path / "tests.jsonl").exists()


def test_a_board_that_cannot_be_asked_counts_as_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    board = bench.here.board
    assert board.power is not None
    silent = msgspec.structs.replace(board, power=msgspec.structs.replace(board.power, state=None))
    bench.here = bench.here._replace(profile=msgspec.structs.replace(bench.here.profile, boards=(silent,)))
    with bench.switch() as power:
        assert power.state() is None
        power.off()
    assert bench.is_on()
