"""The pure parts of the simulated device manager: log lines, batches, ctl arguments, metrics, the installed script."""

from __future__ import annotations

import json
import stat
import subprocess
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from roboticks_tasks.sim.device_manager import (
    compositions,
    control,
    credentials,
    files,
    install,
    journal,
    link,
    metrics,
    uplink,
)
from roboticks_tasks.sim.device_manager.endings import Ending
from roboticks_tasks.sim.device_manager.journal import Journal
from roboticks_tasks.sim.device_manager.link import Link
from roboticks_tasks.sim.device_manager.settings import Settings
from roboticks_tasks.sim.device_manager.spool import Entry
from roboticks_tasks.sim.device_manager.state import State


def test_a_log_line_has_the_documented_form() -> None:
    line = journal.format_line(1_795_352_400_123_456, "INFO", "registration", "Registered with DSN: SIM-0A1B2C3D")

    assert line == "2026-11-22T13:00:00.123456Z INFO [registration] Registered with DSN: SIM-0A1B2C3D\n"


def test_whatever_a_module_prints_stays_one_line() -> None:
    line = journal.format_line(0, "INFO", "m", "one\rtwo\x1b[31m\u2028\0\tü")

    assert line.endswith("one\\rtwo\\x1b[31m\\u2028\\x00\tü\n")
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("WARNING low battery", ("WARNING", "low battery")),
        ("ERROR: no camera", ("ERROR", "no camera")),
        ("Errors are 7", ("INFO", "Errors are 7")),
        ("ERROR", ("INFO", "ERROR")),
    ],
)
def test_a_line_of_a_module_may_begin_with_its_level(text: str, expected: tuple[str, str]) -> None:
    assert journal.split_level(text) == expected


def test_the_backlog_is_bounded_and_counts_what_it_dropped(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    book = Journal(tmp_path / "log")

    for number in range(journal.BACKLOG + 3):
        book.info("m", f"message {number}")

    assert len(book.backlog) == journal.BACKLOG
    assert book.dropped == 3
    assert book.backlog[0][1]["message"] == "message 3"
    assert capfd.readouterr().err == (tmp_path / "log").read_text()


def test_a_huge_message_is_cut(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    book = Journal(tmp_path / "log")
    book.info("m", "x" * 10_000)

    assert book.backlog[0][1]["message"].endswith("x [1808 characters cut]")
    assert len(capfd.readouterr().err) < 9_000


def entries(count: int, *, session: str | None = None, size: int = 10) -> list[Entry]:
    return [(session, {"message": "€" * size, "number": number}) for number in range(count)]


def test_batches_keep_the_order_and_never_mix_sessions() -> None:
    backlog = deque([*entries(2), *entries(3, session="s"), *entries(1)])
    batches = []
    while backlog:
        batches.append(uplink.take(backlog))

    assert [(session, len(messages)) for session, messages in batches] == [(None, 2), ("s", 3), (None, 1)]
    assert [message["number"] for message in batches[1][1]] == [0, 1, 2]


def test_a_batch_stays_below_the_documented_message_limit() -> None:
    backlog = deque(entries(1000, size=journal.LONGEST_MESSAGE))

    while backlog:
        _session, messages = uplink.take(backlog)
        assert messages
        assert len(json.dumps({"messages": messages}, ensure_ascii=False).encode()) < 128_000


def test_a_batch_counts_what_json_makes_of_its_messages() -> None:
    backlog: deque[Entry] = deque((None, {"message": "\x01\U0001f916" * 4096}) for _ in range(50))
    sizes = []
    while backlog:
        sizes.append(len(link.encoded(uplink.take(backlog)[1])))

    assert 60_000 < max(sizes) < 128_000


def test_the_notice_about_dropped_messages_drops_no_other(tmp_path: Path) -> None:
    book = Journal(tmp_path / "log")
    shipper = uplink.LogShipper(book, cast(Link, None))
    for number in range(journal.BACKLOG + 3):
        book.info("m", f"message {number}")

    batch = shipper._next_batch()

    assert batch is not None
    assert batch["messages"][0]["message"] == "message 3"
    assert book.backlog[-1][1]["message"] == "3 older messages were dropped: the platform was away too long"
    assert book.dropped == 0


def test_a_heartbeat_says_when_to_expect_the_next(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    wire = SimpleNamespace(tell=lambda _topic, document: told.append(document))
    chosen = Settings(root=tmp_path, name="x", heartbeat_interval=7.5)

    uplink.Heartbeat(chosen, State(tmp_path / "state"), cast(Link, wire)).send()

    assert told[0]["interval"] == 7.5


def test_modules_get_none_of_our_secrets() -> None:
    secret = ["ROBOTICKS_PROJECT_SECRET", "ROBOTICKS_API_KEY", "ROBOTICKS_TOKEN", "RBTK_API_KEY", "RBTK_X_TOKEN"]
    kept = ["ROBOTICKS_ROOT", "ROBOTICKS_KEYBOARD", "RBTK_URL", "CAMERA_KEY"]

    assert list(compositions.without_secrets(dict.fromkeys(secret + kept, "x"))) == kept


def test_ctl_options_may_stand_anywhere() -> None:
    expected = ("start-composition", ["Hello"], {"--mode": "dev"})

    assert control.parse(["start-composition", "Hello", "--mode", "dev"]) == expected
    assert control.parse(["start-composition", "--mode=dev", "Hello"]) == expected


@pytest.mark.parametrize(
    "arguments", [[""], ["stop-composition", "A", "B"], ["start-session", "--name"], ["start-session", "--name="]]
)
def test_wrong_ctl_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(control.UsageError):
        control.parse(arguments)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "31", "x"])
def test_a_timeout_is_a_positive_number_below_the_default(value: str) -> None:
    assert control.seconds({}, 30.0) == 30.0
    assert control.seconds({"--timeout": "0.5"}, 30.0) == 0.5
    with pytest.raises(control.UsageError):
        control.seconds({"--timeout": value}, 30.0)


def test_cpu_usage_is_the_busy_part_of_the_ticks_between() -> None:
    assert metrics.cpu_usage((10, 100), (35, 200)) == 25.0
    assert metrics.cpu_usage((10, 100), (10, 100)) == 0.0


def test_the_serial_number_belongs_to_the_root() -> None:
    assert credentials.serial_of(Path("/a")) == credentials.serial_of(Path("/a"))
    assert credentials.serial_of(Path("/a")) != credentials.serial_of(Path("/b"))


def test_a_file_is_private_from_its_first_moment_and_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    files.replace(path, "one")
    inode = path.stat().st_ino
    files.replace(path, "two")

    assert path.read_text() == "two"
    assert path.stat().st_ino != inode
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Ending, match=r"cannot write .*No such file or directory") as caught:
        files.replace(tmp_path / "nowhere" / "file", "text")

    assert caught.value.exit_code == 5


def test_a_registration_is_cached_only_with_all_its_files(tmp_path: Path) -> None:
    kept = credentials.Credentials(folder=tmp_path)
    kept.key.write_text("key")
    kept.store({"device_id": "1", "dsn": "SIM-1", "certificate": "c", "ca_certificate": "a", "test_device": True})
    assert (kept.cached() or {})["dsn"] == "SIM-1"

    kept.authority.unlink()
    assert kept.cached() is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"dsn": 1}', "\x00"])
def test_a_broken_cache_is_no_cache(tmp_path: Path, content: str) -> None:
    kept = credentials.Credentials(folder=tmp_path)
    for path in (kept.key, kept.certificate, kept.authority):
        path.write_text("x")
    kept.registration.write_text(content)

    assert kept.cached() is None


def test_installing_twice_leaves_the_program_untouched(tmp_path: Path) -> None:
    program = install(tmp_path)
    before = program.stat()
    program_again = install(tmp_path)

    assert program_again == program == tmp_path / "install/bin/device-manager"
    assert program.stat().st_ino == before.st_ino
    assert list(program.parent.iterdir()) == [program]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert subprocess.run([install(tmp_path), "--version"], capture_output=True).returncode == 0


@pytest.mark.parametrize("name", ["plain", "it's", 'a "b" $HOME `id` \\ } *', "ü"])
def test_the_installed_script_works_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    completed = subprocess.run(
        [install(root), "ctl", "status"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )

    assert completed.returncode == 3
    assert completed.stderr == f"no device manager is running in {root}\n"
