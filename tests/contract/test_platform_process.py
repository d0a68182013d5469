"""The platform as a process: start, refusals to start, what stays after a stop or a kill, and what does not."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import sqlite3
import stat
import time
from pathlib import Path

import pytest

from tests import parts
from tests.conditions import until
from tests.contract.platform_process import Device, Platform, entry, processes_naming, running, spawn

BROKERS = ["builtin", "mosquitto"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "platform"


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> str:
    if request.param == "mosquitto":
        parts.require("mosquitto")
    return str(request.param)


def error_of(platform: Platform) -> str:
    """Return the code of the start's error, after the process has ended as it should."""
    assert platform.process.wait(10) == 3
    error = platform.ready["error"]
    assert error["message"]
    assert "\n" not in error["message"]
    return str(error["code"])


def test_ready_says_what_platform_json_says(folder: Path, broker: str) -> None:
    with running(folder, "--broker", broker) as platform:
        assert platform.ready == json.loads((folder / "platform.json").read_bytes())
        fields = Path(f"/proc/{platform.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        assert platform.ready == {
            "pid": platform.process.pid,
            "start_time": int(fields[19]),
            "url": platform.ready["url"],
            "mqtt": {"host": "127.0.0.1", "port": platform.ready["mqtt"]["port"]},
            "broker": broker,
            "organization": "local",
            "project": "local",
        }
        assert platform.get("/api/v1/health")["broker"] == broker


def test_secrets_and_keys_are_private(folder: Path) -> None:
    before = os.umask(0)
    try:
        with running(folder, "--broker", "builtin"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("project-secret", "api-key", "ca.key", "server.key", "client.key"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name


def test_secrets_show_neither_on_the_command_line_nor_in_the_log(folder: Path) -> None:
    with running(folder, "--broker", "builtin") as platform:
        platform.call("GET", "devices")
        platform.register("serial")
        command = Path(f"/proc/{platform.process.pid}/cmdline").read_text(encoding="utf-8")
        for word in (platform.secret, platform.key):
            assert len(word) > 30
            assert word not in command
            assert word not in platform.log


def test_sigterm_leaves_nothing_running(folder: Path, broker: str) -> None:
    with running(folder, "--broker", broker) as platform:
        expected = 2 if broker == "mosquitto" else 1
        assert len(processes_naming(str(folder))) == expected
        assert platform.stop() == 0
        assert processes_naming(str(folder)) == []
        assert not (folder / "platform.json").exists()
        assert "Traceback" not in platform.log


def test_a_stop_is_quick_even_with_connections_open(folder: Path, tmp_path: Path, broker: str) -> None:
    with running(folder, "--broker", broker) as platform, Device(platform, tmp_path, "serial").connected():
        start = time.monotonic()
        assert platform.stop() == 0
        assert time.monotonic() - start < 0.5


def test_sigkill_leaves_no_broker(folder: Path, broker: str) -> None:
    with running(folder, "--broker", broker) as platform:
        platform.kill()
        until(lambda: not processes_naming(str(folder)))


def test_state_is_kept_across_a_restart_on_the_same_ports(folder: Path, tmp_path: Path, broker: str) -> None:
    with running(folder, "--broker", broker) as platform:
        device = Device(platform, tmp_path, "serial")
        with device.connected() as connection:
            connection.heartbeat()
            session = connection.create(request_id="r")["session_id"]
            connection.log(entry("kept"), session=session)
            connection.settle()
        first, secrets = platform.ready, (platform.secret, platform.key)
        assert platform.stop() == 0
    with running(folder, "--broker", broker) as platform:
        assert (platform.ready["url"], platform.ready["mqtt"]) == (first["url"], first["mqtt"])
        assert (platform.secret, platform.key) == secrets
        shown = platform.get(f"devices/{device.dsn}")
        assert (shown["id"], shown["status"], shown["current_session_id"]) == (device.id, "offline", session)
        assert platform.get(f"sessions/{session}/logs")["items"][0]["message"] == "kept"
        with device.connected() as connection:
            assert connection.create(request_id="r")["session_id"] == session


def test_what_was_answered_survives_kill_9(folder: Path, tmp_path: Path, broker: str) -> None:
    with running(folder, "--broker", broker) as platform:
        device = Device(platform, tmp_path, "serial")
        with device.connected() as connection:
            session = connection.create(request_id="r")["session_id"]
            connection.log(entry("kept"), session=session)
            connection.settle()
            platform.kill()
        stale = json.loads((folder / "platform.json").read_bytes())
        assert not Path(f"/proc/{stale['pid']}").exists()
    with running(folder, "--broker", broker) as platform:
        assert "error" not in platform.ready
        assert platform.ready["pid"] != stale["pid"]
        assert platform.get(f"sessions/{session}/logs")["items"][0]["message"] == "kept"
        with device.connected() as connection:
            assert connection.create(request_id="r")["session_id"] == session


@pytest.mark.parametrize(
    "name", ["platform.lock", "ca.key", "ca.crt", "server.crt", "client.key", "platform.db", "api-key", "ports.json"]
)
def test_a_kill_in_the_middle_of_the_first_start_leaves_a_usable_folder(folder: Path, name: str) -> None:
    process = spawn(folder, "--broker", "builtin")
    try:
        until((folder / name).exists)
    finally:
        process.kill()
        process.wait()
    with running(folder, "--broker", "builtin") as platform:
        assert "error" not in platform.ready, platform.ready
        assert platform.register("serial").ok
        assert not list(folder.glob(".*")), "half-written files are left"


@pytest.mark.parametrize("option", ["--http-port", "--mqtt-port"])
def test_a_port_in_use_is_an_error_of_its_own(folder: Path, broker: str, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        with running(folder, "--broker", broker, option, number) as platform:
            assert error_of(platform) == "port-in-use"
            assert number in platform.ready["error"]["message"]
    assert processes_naming(str(folder)) == []
    with running(folder, "--broker", broker) as platform:
        assert "error" not in platform.ready


def test_remembered_ports_that_are_taken_are_replaced(folder: Path, broker: str) -> None:
    with running(folder, "--broker", broker) as platform:
        first = platform.ready
        platform.stop()
    with (
        socket.create_server(("127.0.0.1", first["mqtt"]["port"])),
        socket.create_server(("127.0.0.1", int(first["url"].rpartition(":")[2]))),
        running(folder, "--broker", broker) as platform,
    ):
        assert "error" not in platform.ready
        assert platform.ready["mqtt"] != first["mqtt"]
        assert platform.ready["url"] != first["url"]


def test_chosen_ports_are_used(folder: Path, broker: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        http, mqtt = one.getsockname()[1], two.getsockname()[1]
    with running(folder, "--broker", broker, "--http-port", str(http), "--mqtt-port", str(mqtt)) as platform:
        assert platform.ready["url"] == f"http://127.0.0.1:{http}"
        assert platform.ready["mqtt"]["port"] == mqtt


def test_a_second_platform_on_the_same_folder_is_refused(folder: Path) -> None:
    with running(folder, "--broker", "builtin") as first:
        description = (folder / "platform.json").read_bytes()
        with running(folder, "--broker", "builtin") as second:
            assert error_of(second) == "already-running"
        assert (folder / "platform.json").read_bytes() == description
        assert first.call("GET", "devices").ok


def test_the_database_of_a_newer_program_is_refused_and_untouched(folder: Path) -> None:
    folder.mkdir()
    database = folder / "platform.db"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE later (x)")
        connection.execute("PRAGMA user_version = 99")
    before = database.read_bytes(), database.stat().st_mtime_ns
    with running(folder, "--broker", "builtin") as platform:
        assert error_of(platform) == "newer-state"
        assert "99" in platform.ready["error"]["message"]
    assert (database.read_bytes(), database.stat().st_mtime_ns) == before
    assert not list(folder.glob("platform.db-*"))


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("platform.db", "platform.db"),
        ("ca.crt", "ca.crt"),
        ("ca.key", "ca.key"),
        ("server.crt", "certificates"),
        ("client.key", "certificates"),
    ],
)
def test_a_damaged_file_is_an_error_with_a_sentence(folder: Path, name: str, named: str) -> None:
    with running(folder, "--broker", "builtin") as platform:
        platform.stop()
    (folder / name).write_bytes(b"this is not what it was" * 100)
    if name.startswith("ca."):
        # Only then is the authority's own file needed at the start.
        (folder / "server.crt").unlink()
    with running(folder, "--broker", "builtin") as platform:
        assert error_of(platform) == "failed"
        assert named in platform.ready["error"]["message"]
    assert (folder / name).read_bytes().startswith(b"this is not")


def test_a_folder_that_cannot_be_made_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with running(tmp_path / "log", "--directory", str(tmp_path / "file" / "platform")) as refused:
        assert error_of(refused) == "not-writable"


def test_a_full_disk_is_an_error_of_its_own(folder: Path) -> None:
    # A limit on the size of files stands in for the full disk: writing fails in the same places.
    with running(
        folder, "--broker", "builtin", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    ) as platform:
        assert error_of(platform) == "disk-full"
    with running(folder, "--broker", "builtin") as platform:
        assert "error" not in platform.ready


def test_a_full_disk_while_running_is_a_503_and_no_crash(folder: Path, tmp_path: Path) -> None:
    with running(folder, "--broker", "builtin") as platform, Device(platform, tmp_path, "serial").connected() as one:
        one.create()
        resource.prlimit(platform.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        refused = platform.register("other")
        assert refused.status_code == 503
        assert "database" in refused.json()["detail"]
        lost = one.create(request_id="lost")
        assert lost["request_id"] == "lost"
        assert "database" in lost["error"]
        resource.prlimit(platform.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert platform.register("other").status_code == 201
        one.settle()


def test_a_broker_that_dies_ends_the_platform_with_an_error(folder: Path) -> None:
    parts.require("mosquitto")
    with running(folder, "--broker", "mosquitto") as platform:
        children = Path(f"/proc/{platform.process.pid}/task/{platform.process.pid}/children")
        start = time.monotonic()
        os.kill(int(children.read_text(encoding="utf-8").split()[0]), 9)
        assert platform.process.wait(10) == 3
        assert time.monotonic() - start < 1.5
        assert "the broker is lost: mosquitto ended by itself (exit code -9)" in platform.log
        assert "Traceback" not in platform.log
    assert not (folder / "platform.json").exists()


def test_a_start_forgets_old_sessions(folder: Path, tmp_path: Path) -> None:
    with running(folder, "--broker", "builtin") as platform:
        device = Device(platform, tmp_path, "serial")
        with device.connected() as connection:
            for number in range(2):
                session = connection.create(request_id=str(number))["session_id"]
                connection.log(entry("x"), sequence=number, session=session)
            connection.settle()
        platform.stop()
    with contextlib.closing(sqlite3.connect(folder / "platform.db")) as database, database:
        database.execute("UPDATE sessions SET kept_at = 1")
    with running(folder, "--broker", "builtin") as platform:
        until(lambda: [item["id"] for item in platform.get("sessions")["items"]] == [session])
        assert platform.get(f"devices/{device.dsn}/logs")["total"] == 1


def test_mosquitto_is_preferred_when_it_is_there(folder: Path) -> None:
    parts.require("mosquitto")
    with running(folder) as platform:
        assert platform.ready["broker"] == "mosquitto"


def test_our_own_broker_takes_over_where_mosquitto_does_not_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bin" / "mosquitto"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'Error: a library is missing' >&2\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}{os.pathsep}{os.environ['PATH']}")
    with running(folder) as platform:
        assert platform.ready["broker"] == "builtin"
        assert "a library is missing" in platform.log
    with running(folder, "--broker", "mosquitto") as platform:
        assert error_of(platform) == "failed"


def test_a_platform_whose_starter_has_gone_before_it_is_ready_ends_in_order(folder: Path) -> None:
    """Nobody else would: a run that was killed while the platform came up has told nobody of it."""
    read, write = os.pipe()
    os.close(read)
    process = spawn(folder, "--broker", "builtin", "--ready-fd", str(write), pass_fds=[write])
    os.close(write)
    try:
        assert process.wait(20) == 0
        assert not (folder / "platform.json").exists()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("arguments", [["--http-port", "65536"], ["--mqtt-port", "-1"], ["--broker", "other"]])
def test_arguments_that_make_no_sense_are_a_usage_error(folder: Path, arguments: list[str]) -> None:
    process = spawn(folder, *arguments)
    assert process.wait(10) == 2
    assert not folder.exists()
