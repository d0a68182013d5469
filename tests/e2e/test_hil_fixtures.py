"""What the fixtures do in a real run, over a serial console on which the run's own process has its shell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from roboticks_tasks.events import Commanded, read_events
from tests.contract.pty_board import running_board
from tests.e2e.bench import Bench
from tests.e2e.board_profiles import manager, over_serial

SUITE = """
[tests]
command = "pytest -q -p no:cacheprovider -n 2 tests"
timeout = 100
"""

TESTS = r'''
import os
import pytest

# The board's terminal is that of one of the command's ancestors.
PRINT = """pid=$PPID
while [ "$pid" -gt 1 ]; do
    case $(readlink "/proc/$pid/fd/1") in
    /dev/pts/*) echo 'kernel: a line' >"/proc/$pid/fd/1"; exit ;;
    esac
    pid=$(awk '{ print $4 }' "/proc/$pid/stat")
done
exit 1"""

@pytest.mark.parametrize("number", range(3))
def test_the_board_has_a_shell(target, number):
    assert target.run(f"echo from-$((40 + {number}))").text == f"from-4{number}"

def test_the_watchdog_is_given_signs_of_life_meanwhile(target):
    target.run("sleep 1.5")

def test_files_come_and_go(target, tmp_path):
    data = bytes(range(256)) * 20
    target.put(data, f"{tmp_path}/file")
    assert target.get(f"{tmp_path}/file") == data

def test_a_failure_says_what_the_board_said(target):
    with pytest.raises(AssertionError, match="ended with 3 on board serial-1\nstdout: words"):
        target.run("echo words; exit 3")

def test_the_device_has_a_certificate(device):
    assert device.board_id == "serial-1"
    assert device.features == ()
    assert device.certificate.subject == device.dsn
    assert device.certificate.not_before < device.certificate.not_after

def test_the_console_is_not_typed_on(console):
    with pytest.raises(Exception, match="use the fixture `target`"):
        console.send_line("reboot")

def test_what_is_said_on_the_console_is_heard(console, target):
    target.run(PRINT)
    assert console.expect(r"^kernel: (.*)$")[1] == "a line"

def test_secrets_stay_secret(target, artifacts):
    target.run("echo " + os.environ["LAB_TOKEN"])
    artifacts.attach("the token is " + os.environ["LAB_TOKEN"], "../notes.txt")

@pytest.mark.requires(feature="gpu")
def test_needs_a_gpu(target):
    target.run("false")
'''


TOKEN = "a-token-of-the-lab-4711"


class Finished(NamedTuple):
    """A run that has ended: its folder, and what its tests did on the board."""

    folder: Path
    commands: list[Commanded]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """The suite above, run once, by two workers of xdist, on a board that has nothing but a console."""
    folder = tmp_path_factory.mktemp("fixtures")
    bench = Bench(folder)
    (folder / "tests").mkdir()
    (folder / "tests" / "test_board.py").write_text(TESTS)
    try:
        with running_board(folder / "pty", powered=False) as board:
            spec = manager("simulated", folder / "root")
            bench.profile("serial", over_serial(board, device_manager=spec, suite=SUITE))
            done = bench.run("hil-test", "--profile", "serial", variables={"LAB_TOKEN": TOKEN})
        run = bench.latest_of("serial")
        assert done.code == 0, done.err + (run / "pytest.log").read_text()
        events = read_events(run / "tests.jsonl")
        yield Finished(run, [event for event in events if isinstance(event, Commanded)])
        bench.assert_nothing_is_left()
    finally:
        bench.kill_everything()


def test_two_workers_use_the_console_on_which_the_run_has_its_shell(finished: Finished) -> None:
    log = (finished.folder / "pytest.log").read_text()
    assert "10 passed, 1 skipped" in log
    assert "no sign of life" not in (finished.folder / "test-run.log").read_text()


def test_each_command_is_noted_with_its_test(finished: Finished) -> None:
    name = "tests/test_board.py::test_the_board_has_a_shell[1]"
    [command] = [each for each in finished.commands if each.nodeid == name]
    assert (command.command, command.exit_code, command.output) == ("echo from-$((40 + 1))", 0, "from-41\n")
    assert {"test_files_come_and_go", "test_the_device_has_a_certificate"} <= {
        (each.nodeid or "").rpartition("::")[2] for each in finished.commands
    }


def test_no_secret_is_in_what_the_fixtures_write(finished: Finished) -> None:
    [attachment] = (finished.folder / "attachments").glob("*/*")
    assert (attachment.name, attachment.read_text()) == ("notes.txt", "the token is ***")
    assert [each.command for each in finished.commands if "secret" in (each.nodeid or "")] == ["echo ***"]
    assert TOKEN not in (finished.folder / "tests.jsonl").read_text()


def test_the_attachment_is_a_property_of_its_test_although_a_worker_of_xdist_had_it(finished: Finished) -> None:
    [case] = ElementTree.parse(finished.folder / "pytest.xml").iterfind(".//testcase[@name='test_secrets_stay_secret']")
    properties = {each.get("name"): each.get("value") for each in case.iter("property")}
    assert (finished.folder / (properties["roboticks.attach.attachments"] or "")).name == "notes.txt"
    assert (finished.folder / (properties["roboticks.attach.attachments"] or "")).is_file()


def test_a_board_that_lacks_a_feature_skips_the_test_with_its_reason(finished: Finished) -> None:
    [skipped] = ElementTree.parse(finished.folder / "pytest.xml").iterfind(
        ".//testcase[@name='test_needs_a_gpu']/skipped"
    )
    assert skipped.get("message") == "board serial-1 has no gpu; its features: none"
    assert not [each for each in finished.commands if "gpu" in (each.nodeid or "")]
