"""doctor on real parts: an sshd, a pseudo terminal, an HTTP server, a lease that another process has."""

from __future__ import annotations

import argparse
import json
import os
import pty
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import msgspec
import pytest

from roboticks_tasks import processes
from roboticks_tasks.backend.local import STARTED_BY_RUN
from roboticks_tasks.bench import VARIABLE
from roboticks_tasks.boards import quarantine
from roboticks_tasks.doctor import Diagnosis, diagnose, hardware, reach
from roboticks_tasks.doctor.checks import run_check, run_checks
from roboticks_tasks.doctor.command import doctor
from roboticks_tasks.doctor.diagnosis import platform_checks
from roboticks_tasks.doctor.facts import gather
from roboticks_tasks.doctor.findings import Finding
from roboticks_tasks.doctor.leftovers import left_link
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.lifecycle.support.places import places
from roboticks_tasks.profiles import Profile
from roboticks_tasks.profiles.values import (
    Board,
    Console,
    DeviceManagerSpec,
    Identity,
    LocalPlatform,
    Power,
    Target,
)
from roboticks_tasks.serial_console.captures import start_capture, stop_capture
from roboticks_tasks.targets.ssh.links import close_link, open_link
from tests.conditions import until
from tests.contract.http_server import Answer, Request, Server, serving
from tests.contract.pty_board import profile_of, running_board
from tests.contract.shells import SHELLS, open_tiny
from tests.contract.sshd import ALIAS, Sshd, make_key, running_sshd

replace = msgspec.structs.replace

SECRETS = {"ROBOTICKS_PROJECT_SECRET": "secret", "ROBOTICKS_API_KEY": "rbtk_key"}


HOLDER = """
import sys
from pathlib import Path
import msgspec
from roboticks_tasks.boards import lease
from roboticks_tasks.profiles import Profile
with lease(msgspec.json.decode(sys.argv[1], type=Profile), run=Path("their-run")):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def bench_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "bench"))
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def shared_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd") / "sshd") as sshd:
        yield sshd


@pytest.fixture
def platform() -> Iterator[Server]:
    """Return a platform that knows one key and that is well."""
    with serving() as server:
        server.answer = well
        yield server


def well(request: Request) -> Answer:
    if request.path == "/api/v1/health":
        return Answer(body=b'{"status": "ok"}')
    known = request.headers.get("authorization") == "Bearer rbtk_key"
    return Answer(body=b'{"email": "robin@example.org"}') if known else Answer(401)


def healthy(profile: Profile, root: Path) -> Profile:
    """Return the profile with all that a run needs, in `root`."""
    root.mkdir()
    manager = replace(
        profile.device_manager, kind="native", root=str(root), registration_file=str(root / "registration.json")
    )
    profile = replace(profile, name="bench", device_manager=manager)
    where = places(profile)
    Path(where.binary).parent.mkdir(parents=True)
    Path(where.binary).write_text("#!/bin/sh\n")
    Path(where.binary).chmod(0o755)
    Path(where.deployment).mkdir()
    (root / "serial").write_text("0042")
    identity = Identity(command=("cat", str(root / "serial")), equals="0042")
    return replace(profile, boards=tuple(replace(board, identity=identity) for board in profile.boards))


def over_ssh(sshd: Sshd, tmp_path: Path, server: Server, **target: Any) -> Profile:
    profile = replace(sshd.profile(**target), backend=server.url, organization="acme", project="robots")
    return healthy(profile, tmp_path / "root")


def here(tmp_path: Path, **board: Any) -> Profile:
    profile = Profile(boards=(Board(**({"id": "a"} | board)),), backend="local")
    return healthy(
        replace(profile, local_platform=LocalPlatform(directory=str(tmp_path / "platform"))), tmp_path / "root"
    )


def examine(profile: Profile, tmp_path: Path, environ: dict[str, str] | None = None) -> Diagnosis:
    return diagnose(profile, folder=tmp_path / "test-output", environ=SECRETS if environ is None else environ)


def named(found: Diagnosis | list[Finding]) -> dict[str, Finding]:
    findings = found.findings if isinstance(found, Diagnosis) else found
    assert all(each.remedy for each in findings if each.outcome in {"failed", "warning"}), findings
    return {each.name: each for each in findings}


def outcomes(found: Diagnosis) -> dict[str, list[str]]:
    """Return the names of what is not ok, by outcome."""
    bad: dict[str, list[str]] = {}
    for each in found.findings:
        if each.outcome != "ok":
            bad.setdefault(each.outcome, []).append(each.name)
    return bad


def test_on_a_healthy_bench_over_ssh_all_is_well(
    shared_sshd: Sshd, platform: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roboticks_tasks.doctor.board.SHELL", 60.0)  # whatever the machine of the tests is busy with
    found = examine(over_ssh(shared_sshd, tmp_path, platform), tmp_path)
    print(f"{len(found.findings)} findings in {found.duration:.2f} s")
    assert outcomes(found) == {}
    assert found.exit_code == 0
    assert {"connection", "pinned host key", "identity", "shell start-up", "API key"} <= set(named(found))
    assert found.boards == (ALIAS,)


def test_a_refused_key_fails_the_connection_and_skips_what_depends_on_it(
    shared_sshd: Sshd, platform: Server, tmp_path: Path
) -> None:
    make_key(tmp_path / "stranger")
    found = examine(over_ssh(shared_sshd, tmp_path, platform, identity_file=str(tmp_path / "stranger")), tmp_path)
    assert named(found)["connection"].outcome == "failed"
    assert "refuses" in named(found)["connection"].detail
    assert {"clock", "disk", "identity"} <= set(outcomes(found)["skipped"])
    assert found.exit_code == 22


def test_a_changed_host_key_is_never_taken(shared_sshd: Sshd, platform: Server, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    key = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    (tmp_path / "known_hosts").write_text(f"{ALIAS} {key}\n")
    found = examine(over_ssh(shared_sshd, tmp_path, platform, known_hosts=str(tmp_path / "known_hosts")), tmp_path)
    assert "HAS CHANGED" in named(found)["connection"].detail
    assert found.exit_code == 22


def test_a_host_that_nobody_has_pinned_is_not_connected_to(shared_sshd: Sshd, platform: Server, tmp_path: Path) -> None:
    found = examine(over_ssh(shared_sshd, tmp_path, platform, known_hosts=str(tmp_path / "nothing")), tmp_path)
    assert f"enroll --profile bench --board {ALIAS}" in named(found)["pinned host key"].remedy
    assert named(found)["connection"].outcome == "skipped"
    assert found.exit_code == 22


def test_a_login_shell_that_sleeps_is_told(platform: Server, tmp_path: Path) -> None:
    with running_sshd(tmp_path / "sshd", more='ForceCommand sleep 0.1; eval "$SSH_ORIGINAL_COMMAND"\n') as sshd:
        found = examine(over_ssh(sshd, tmp_path, platform), tmp_path)
    startup = named(found)["shell start-up"]
    assert startup.outcome == "warning"
    assert int(startup.detail.partition(" takes ")[2].partition(" ms")[0]) >= 100
    assert found.exit_code == 0


def test_a_board_that_nobody_listens_at_fails(shared_sshd: Sshd, platform: Server, tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        found = examine(over_ssh(shared_sshd, tmp_path, platform, port=taken.getsockname()[1]), tmp_path)
    assert named(found)["connection"].outcome == "failed"
    assert found.exit_code == 22


def test_another_board_fails_its_identity_and_the_rest_is_seen(
    shared_sshd: Sshd, platform: Server, tmp_path: Path
) -> None:
    profile = over_ssh(shared_sshd, tmp_path, platform)
    (tmp_path / "root" / "serial").write_text("0043")
    found = examine(profile, tmp_path)
    assert "0043" in named(found)["identity"].detail
    assert outcomes(found)["failed"] == ["identity"]
    assert "skipped" not in outcomes(found)


def test_an_identity_command_that_hangs_is_given_up_and_the_rest_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roboticks_tasks.doctor.reach.DEADLINE", 2.0)
    profile = here(tmp_path)
    identity = Identity(command=("sleep", "1000"), equals="0042")
    found = examine(replace(profile, boards=(Board(id="a", identity=identity),)), tmp_path)
    assert "did not end within 2 s" in named(found)["identity"].detail
    assert outcomes(found) == {"failed": ["identity"]}


def test_a_connection_that_outlived_its_run_is_seen(shared_sshd: Sshd, tmp_path: Path) -> None:
    profile = shared_sshd.profile()
    assert left_link(profile, None).outcome == "ok"
    link = open_link(profile)
    try:
        until(lambda: Path(link.control).exists(), "the link is up")
        seen = left_link(profile, None)
        assert (seen.outcome, bool(seen.remedy)) == ("warning", True)
        assert str(link.process.pid) in seen.detail
        assert left_link(profile, "a run").outcome == "ok"
    finally:
        close_link(link)
    assert left_link(profile, None).outcome == "ok"


def test_a_board_without_power_is_not_called(tmp_path: Path) -> None:
    switched = tmp_path / "switched"
    power = Power(state=("echo", "off"), on=("touch", str(switched)), off=("touch", str(switched)))
    found = examine(here(tmp_path, power=power), tmp_path)
    assert named(found)["power"].outcome == "warning"
    assert named(found)["connection"].detail == "the board has no power"
    assert found.exit_code == 0
    assert not switched.exists()


def hold(profile: Profile) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    content = msgspec.json.encode(profile).decode()
    return subprocess.Popen([sys.executable, "-c", HOLDER, content], stdin=pipe, stdout=pipe)


def test_a_board_that_a_run_has_is_only_asked_what_does_not_disturb(tmp_path: Path) -> None:
    board, terminal = pty.openpty()
    profile = here(tmp_path, console=Console(port=os.ttyname(terminal)))
    with hold(profile) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        found = examine(profile, tmp_path)
        holder.kill()
    os.close(board)
    os.close(terminal)
    assert "their-run" in named(found)["lease"].detail
    assert outcomes(found) == {"warning": ["lease"], "skipped": ["console"]}
    assert named(found)["connection"].outcome == "ok"
    assert found.exit_code == 0


def test_a_serial_board_that_a_run_has_is_left_alone(tmp_path: Path) -> None:
    profile = replace(here(tmp_path, console=Console(port="/dev/null")), target=Target(kind="serial"))
    [connection, *rest] = run_check(reach.board_check(profile, {}, in_use="a run"))
    assert connection.outcome == "skipped"
    assert {each.outcome for each in rest} == {"skipped"}


def park(profile: Profile) -> None:
    for _ in range(profile.quarantine.failures):
        quarantine.note_failure(profile, "it did not boot")
    assert quarantine.parked(profile)


def test_a_parked_board_that_passes_is_freed(tmp_path: Path) -> None:
    profile = here(tmp_path)
    park(profile)
    found = examine(profile, tmp_path)
    assert quarantine.parked(profile) is None
    assert "it did not boot" in named(found)["quarantine"].detail
    assert "freed" in named(found)["quarantine"].detail


def test_a_parked_board_that_fails_stays_parked(tmp_path: Path) -> None:
    profile = here(tmp_path)
    park(profile)
    Path(places(profile).binary).unlink()
    found = examine(profile, tmp_path)
    assert quarantine.parked(profile)
    assert named(found)["quarantine"].outcome == "warning"
    assert found.exit_code == 22


def test_a_parked_board_of_which_not_all_was_seen_stays_parked(tmp_path: Path) -> None:
    profile = here(tmp_path, power=Power(state=("echo", "off"), on=("true",)))
    park(profile)
    assert examine(profile, tmp_path).exit_code == 0
    assert quarantine.parked(profile)


def test_a_parked_board_that_a_run_has_stays_parked(tmp_path: Path) -> None:
    profile = here(tmp_path)
    with hold(profile) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        park(profile)
        examine(profile, tmp_path)
        assert quarantine.parked(profile)
        holder.kill()


def test_each_board_of_a_profile_is_looked_at_and_one_when_it_is_named(tmp_path: Path) -> None:
    profile = here(tmp_path)
    manager = replace(profile.device_manager, root=f"{tmp_path}/{{board}}")
    profile = replace(profile, boards=(Board(id="a"), Board(id="b")), device_manager=manager)
    both = examine(profile, tmp_path)
    assert both.boards == ("a", "b")
    assert [each.board for each in both.findings if each.name == "connection"] == ["a", "b"]
    assert [each.board for each in both.findings if each.name == "software"] == [None]
    assert diagnose(profile, folder=tmp_path, board="b", environ={}).boards == ("b",)
    with pytest.raises(ConfigError, match="no board 'c'"):
        diagnose(profile, folder=tmp_path, board="c", environ={})


@pytest.fixture
def terminal() -> Iterator[str]:
    board, end = pty.openpty()
    yield os.ttyname(end)
    os.close(board)
    os.close(end)


@pytest.mark.parametrize("kind", SHELLS)
def test_every_kind_of_board_understands_what_it_is_asked(kind: str, tmp_path: Path) -> None:
    profile = Profile(device_manager=DeviceManagerSpec(root=str(tmp_path / "root")))
    with SHELLS[kind]() as target:
        facts = gather(profile, target, timeout=30)
    assert facts.machine == os.uname().machine
    assert (facts.folder, facts.writable, facts.missing) == (str(tmp_path), True, ())
    assert facts.disk
    assert facts.memory
    assert facts.clock is not None
    assert facts.asked[0] - 1 < facts.clock[1]
    assert facts.clock[0] < facts.asked[1] + 1


@pytest.mark.parametrize(("also", "missing"), [((), ("sha256sum",)), (("openssl",), ())])
def test_a_board_may_have_a_substitute_for_sha256sum(also: tuple[str, ...], missing: tuple[str, ...]) -> None:
    with open_tiny(without=["sha256sum", "sh"], also=["sh", *also]) as tiny:
        assert gather(Profile(), tiny, timeout=30).missing == missing


def test_a_board_behind_its_console_is_looked_at(tmp_path: Path) -> None:
    with running_board(tmp_path / "board") as board:
        profile = replace(profile_of(board), backend="local", boards=(Board(id="a", console=Console(port=board.port)),))
        profile = replace(profile, local_platform=LocalPlatform(directory=str(tmp_path / "platform")))
        found = examine(healthy(profile, tmp_path / "root"), tmp_path)
    assert outcomes(found) == {}
    assert {"console", "connection", "clock", "identity"} <= set(named(found))


def test_a_console_where_nobody_answers_fails(terminal: str, tmp_path: Path) -> None:
    profile = here(tmp_path, console=Console(port=terminal))
    found = examine(replace(profile, target=Target(kind="serial", connect_timeout=0.5)), tmp_path)
    assert named(found)["connection"].outcome == "failed"
    assert "skipped" in outcomes(found)
    assert found.exit_code == 22


def console(port: str, in_use: str | None = None, **more: Any) -> Finding:
    return named(run_checks([hardware.console_check(Console(port=port, **more), in_use)]))["console"]


def test_a_console_that_is_free_can_be_opened(terminal: str) -> None:
    assert console(terminal).outcome == "ok"


def test_a_console_that_is_missing_says_so(tmp_path: Path) -> None:
    assert (console(str(tmp_path / "ttyUSB0")).outcome, console(str(tmp_path / "ttyUSB0")).area) == ("failed", "board")


def test_a_console_that_is_none_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert console(str(tmp_path / "file")).outcome == "failed"


def test_a_busy_console_says_who_has_it(terminal: str) -> None:
    code = "import sys, serial; port = serial.Serial(sys.argv[1], exclusive=True); print(1, flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, terminal], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        found = console(terminal)
        holder.kill()
    assert found.outcome == "failed"
    assert f"pid {holder.pid}" in found.detail


def test_a_baud_rate_that_no_hardware_has_is_a_warning(terminal: str) -> None:
    found = console(terminal, baudrate=115201)
    assert found.outcome == "warning"
    assert "115200" in found.remedy


def test_a_capture_without_a_run_was_left_behind(terminal: str, tmp_path: Path) -> None:
    capture = start_capture(Console(port=terminal), log=tmp_path / "console.log")
    try:
        assert console(terminal).outcome == "warning"
        assert str(capture.process.pid) in console(terminal).detail
        assert console(terminal, "a run").outcome == "ok"
    finally:
        stop_capture(capture)
    assert console(terminal).outcome == "ok"


def test_firmware_is_asked_for_its_console_alone(terminal: str, tmp_path: Path) -> None:
    board = Board(id="a", console=Console(port=terminal))
    manager = DeviceManagerSpec(kind="firmware", root=str(tmp_path / "root"))
    options = LocalPlatform(directory=str(tmp_path / "platform"))
    profile = Profile(backend="local", boards=(board,), device_manager=manager, local_platform=options)
    found = examine(profile, tmp_path)
    assert [each.name for each in found.findings if each.board == "a"] == ["lease", "console", "quarantine"]
    assert found.exit_code == 0


def of_platform(server_url: str, environ: dict[str, str], **profile: Any) -> dict[str, Finding]:
    named_by = {"organization": "acme", "project": "robots"} | profile
    return named(run_checks(list(platform_checks(Profile(backend=server_url, **named_by), environ))))


def test_a_platform_that_is_well_says_whose_key_it_is(platform: Server) -> None:
    found = of_platform(platform.url, SECRETS)
    assert {each.outcome for each in found.values()} == {"ok"}
    assert "robin@example.org" in found["API key"].detail
    assert "only a registration" in found["project secret"].detail


def test_no_credential_is_shown(platform: Server) -> None:
    found = of_platform(platform.url, {"ROBOTICKS_PROJECT_SECRET": "s3cr3t", "ROBOTICKS_API_KEY": "rbtk_wrong"})
    assert "s3cr3t" not in str(found)
    assert "rbtk_wrong" not in str(found)


def test_missing_credentials_are_warnings(platform: Server) -> None:
    found = of_platform(platform.url, {})
    assert [found[name].outcome for name in ("platform", "API key", "project secret")] == ["ok", "warning", "warning"]


def test_a_key_that_is_refused_fails(platform: Server) -> None:
    assert of_platform(platform.url, {"ROBOTICKS_API_KEY": "rbtk_old"})["API key"].outcome == "failed"


def test_a_key_without_organization_and_project_reads_nothing(platform: Server) -> None:
    assert of_platform(platform.url, SECRETS, organization=None)["API key"].outcome == "warning"


@pytest.mark.parametrize(("status", "outcome"), [(503, "failed"), (404, "warning"), (301, "warning")])
def test_what_a_platform_answers_is_judged(platform: Server, status: int, outcome: str) -> None:
    platform.answer = lambda request: Answer(status)
    assert of_platform(platform.url, {})["platform"].outcome == outcome


@pytest.mark.parametrize("url", ["http://192.0.2.1", "https://robin:pass@127.0.0.1"])
def test_a_url_that_no_run_would_use_is_the_profiles_fault_and_is_not_called(url: str) -> None:
    found = of_platform(url, SECRETS)["platform"]
    assert (found.outcome, found.area) == ("failed", "machine")
    assert "pass@" not in str(found)


def test_a_platform_that_is_not_there_fails_and_skips_the_rest() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found = of_platform(f"http://127.0.0.1:{taken.getsockname()[1]}", SECRETS)
    assert found.pop("platform").outcome == "failed"
    assert {each.outcome for each in found.values()} == {"skipped"}


def test_a_platform_without_tls_where_tls_is_expected_is_not_trusted(platform: Server) -> None:
    found = of_platform(platform.url.replace("http://", "https://"), SECRETS)["platform"]
    assert found.outcome == "failed"
    assert "cannot be trusted" in found.detail


@pytest.mark.parametrize(("skew", "outcome"), [(0, "ok"), (30, "warning"), (-30, "warning"), (-7200, "failed")])
def test_this_machines_clock_is_compared_with_the_platforms(
    monkeypatch: pytest.MonkeyPatch, skew: int, outcome: str
) -> None:
    monkeypatch.setattr(
        "http.server.BaseHTTPRequestHandler.date_time_string", lambda *_: formatdate(time.time() + skew, usegmt=True)
    )
    with serving() as server:
        server.answer = well
        assert of_platform(server.url, SECRETS)["platform's clock"].outcome == outcome


def of_local(directory: Path, **options: Any) -> dict[str, Finding]:
    profile = Profile(backend="local", local_platform=LocalPlatform(directory=str(directory), **options))
    return named(run_checks(list(platform_checks(profile, {}))))


def test_a_local_platform_that_does_not_run_is_started_by_the_run(tmp_path: Path) -> None:
    found = of_local(tmp_path)
    assert {each.outcome for each in found.values()} == {"ok"}
    assert "left platform" not in found


def pretend(directory: Path, url: str, pid: int) -> None:
    """Let process `pid` be the local platform in `directory`, at `url`."""
    content = {"pid": pid, "start_time": processes.start_time(pid), "url": url, "mqtt": {"port": 1}}
    (directory / "platform.json").write_text(json.dumps(content | {"organization": "o", "project": "p"}))


def test_a_local_platform_that_hangs_fails(platform: Server, tmp_path: Path) -> None:
    pretend(tmp_path, platform.url, os.getpid())
    assert of_local(tmp_path)["platform"].outcome == "ok"
    platform.answer = lambda request: Answer(500)
    assert of_local(tmp_path)["platform"].outcome == "failed"
    pretend(tmp_path, "http://127.0.0.1:1", os.getpid())
    assert of_local(tmp_path)["platform"].outcome == "failed"


def test_a_local_platform_without_a_run_was_left_behind(platform: Server, tmp_path: Path) -> None:
    pretend(tmp_path, platform.url, os.getpid())
    assert "by hand" in of_local(tmp_path)["left platform"].detail
    (tmp_path / STARTED_BY_RUN).write_text(str(os.getpid()))
    assert of_local(tmp_path)["left platform"].outcome == "warning"
    (tmp_path / "users").mkdir()
    mark = {"processes": [[os.getpid(), processes.start_time(os.getpid())]]}
    (tmp_path / "users" / "run.json").write_text(json.dumps(mark))
    assert of_local(tmp_path)["left platform"].outcome == "ok"


def test_a_port_that_another_program_has_fails(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = of_local(tmp_path, http_port=port)["platform's ports"]
        assert found.outcome == "failed"
        assert str(port) in found.detail
        pretend(tmp_path, f"http://127.0.0.1:{port}", os.getpid())
        assert of_local(tmp_path, http_port=port)["platform's ports"].outcome == "ok"


def test_a_mosquitto_that_is_wanted_must_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roboticks_tasks.sim.platform.mosquitto.find", lambda: None)
    assert of_local(tmp_path, broker="mosquitto")["platform's broker"].outcome == "failed"
    assert of_local(tmp_path, broker="auto")["platform's broker"].outcome == "ok"
    assert of_local(tmp_path, broker="builtin")["platform's broker"].outcome == "ok"


PROFILE = """
backend = "local"
[local_platform]
directory = "{folder}/platform"
[device_manager]
kind = "{kind}"
root = "{folder}/root"
"""


def run_command(tmp_path: Path, kind: str, **options: Any) -> int:
    path = tmp_path / "bench.toml"
    path.write_text(PROFILE.format(folder=tmp_path, kind=kind))
    return doctor(argparse.Namespace(**{"profile": str(path), "board": None, "json": False} | options))


def test_the_command_prints_a_table_and_returns_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(tmp_path, "simulated") == 0
    assert "profile bench: " in capsys.readouterr().out
    assert run_command(tmp_path, "native") == 22
    output = capsys.readouterr().out
    assert "x FAILED   device manager" in output
    assert "\x1b" not in output


def test_the_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(tmp_path, "native", json=True) == 22
    content = json.loads(capsys.readouterr().out)
    assert content["exit_code"] == 22
    assert content["boards"] == ["bench"]
    assert {"name", "area", "outcome", "detail", "remedy", "board", "duration"} == set(content["findings"][0])


@pytest.mark.parametrize("as_json", [False, True])
def test_no_secret_is_shown_even_where_a_line_is_broken_within_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("ROBOTICKS_API_KEY", "one-two-three-four-five-six-seven-eight-nine-ten-eleven-twelve")
    monkeypatch.setenv("ROBOTICKS_UPLOAD_TOKEN", "outcome")  # even so the report's own keys remain
    folder = tmp_path / "one-two-three-four-five-six-seven-eight-nine-ten-eleven-twelve"
    run_command(tmp_path, "native", json=as_json, **{"device_manager.root": str(folder)})
    output = capsys.readouterr().out
    assert "three" not in output
    assert f"{tmp_path}/***/install" in "".join(output.split())
    if as_json:
        assert json.loads(output)["findings"][0]["outcome"]


def test_an_option_overrides_the_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_command(tmp_path, "native", json=True, **{"device_manager.root": str(tmp_path / "elsewhere")})
    assert f"{tmp_path}/elsewhere/install/bin/device-manager" in capsys.readouterr().out
