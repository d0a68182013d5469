"""What only a target over ssh has: links that break, boards that reboot, keys that are refused, configs of users."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from roboticks_tasks import bench
from roboticks_tasks.errors import BoardError, Cancelled, ConfigError, TargetError, UnreachableError
from roboticks_tasks.profiles.values import Profile
from roboticks_tasks.targets.detached import is_alive, spawn_detached, stop
from roboticks_tasks.targets.local import LocalTarget
from roboticks_tasks.targets.ssh import SshTarget, open_ssh
from roboticks_tasks.targets.ssh.host_keys import offered, pinned
from roboticks_tasks.targets.ssh.remote import END_ONE
from tests.conditions import until
from tests.contract.sshd import ALIAS, Sshd, free_port, make_key, running_sshd
from tests.contract.tcp_proxy import TcpProxy, running_proxy


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An sshd that nobody stops."""
    with running_sshd(tmp_path_factory.mktemp("ssh") / "sshd") as sshd:
        yield sshd


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """An sshd of the test's own."""
    with running_sshd(tmp_path / "sshd") as sshd:
        yield sshd


@pytest.fixture
def proxy(shared: Sshd) -> Iterator[TcpProxy]:
    with running_proxy(shared.port) as proxy:
        yield proxy


@pytest.fixture
def ssh_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's ssh config: ssh finds the real one without asking HOME, so a wrapper names this one."""
    config, programs = tmp_path / "ssh_config", tmp_path / "bin"
    programs.mkdir()
    real = subprocess.run(["sh", "-c", "command -v ssh"], capture_output=True, text=True, check=True).stdout.strip()
    (programs / "ssh").write_text(
        f'#!/bin/sh\n[ "$1" != -F ] || exec {real} "$@"\nexec {real} -F {shlex.quote(str(config))} "$@"\n'
    )
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return config


@contextmanager
def once(condition: Callable[[], object], then: Callable[[], object]) -> Iterator[None]:
    """Do something in another thread as soon as a condition holds."""
    thread = threading.Thread(target=lambda: (until(condition), then()), daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(30)


def runs(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    return False


def command_lines(word: str) -> list[list[str]]:
    """Return the argument lists of all processes that have `word` in them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().decode("utf-8", "replace").split("\0")
            if any(word in each for each in words):
                found.append(words)
    return found


# --- a connection that cannot be made ---------------------------------------------------------------------------------


def refused(profile: Profile) -> str:
    """Return what opening says; it must be a BoardError."""
    with pytest.raises(BoardError) as caught, open_ssh(profile):
        pass
    assert caught.value.remedy
    return str(caught.value)


def test_a_port_where_nobody_listens_is_named(shared: Sshd) -> None:
    port = free_port()
    message = refused(shared.profile(port=port))
    assert f"{ALIAS} (127.0.0.1:{port}) refuses connections at port {port}" in message


def test_the_boards_own_port_beats_that_of_the_target(shared: Sshd) -> None:
    with open_ssh(shared.profile(port=free_port(), board={"port": shared.port})) as target:
        assert target.run(["echo", "here"]).text == "here"


def test_a_name_that_nobody_knows_is_named(shared: Sshd) -> None:
    message = refused(shared.profile(board={"host": "no-such-board.invalid"}))
    assert "no-such-board.invalid" in message
    assert "name" in message


def test_a_board_that_accepts_connections_but_says_nothing_is_given_up(shared: Sshd, proxy: TcpProxy) -> None:
    proxy.blackhole()
    message = refused(shared.profile(port=proxy.port, connect_timeout=1))
    assert f"127.0.0.1:{proxy.port}" in message
    assert "did not let us in within 1 s" in message or "does not answer" in message
    until(lambda: not command_lines(str(proxy.port)), "no ssh is left")


def test_a_refused_key_is_said_with_user_and_key(shared: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    message = refused(shared.profile(identity_file=str(tmp_path / "other")))
    assert f"refuses {shared.user} with {tmp_path / 'other'}" in message
    assert "authorized_keys" in message


def test_a_board_without_pinned_key_is_not_trusted(shared: Sshd, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    for text in (None, "", f"another {shared.host_key}\n"):
        if text is not None:
            file.write_text(text)
        message = refused(shared.profile(known_hosts=str(file)))
        assert f"no host key is pinned for {ALIAS}" in message
        assert f"`roboticks-tasks enroll --profile bench --board {ALIAS}`" in message


def test_a_changed_host_key_is_said_loudly_with_both_fingerprints(shared: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "old")
    (tmp_path / "known_hosts").write_text(f"{ALIAS} {(tmp_path / 'old.pub').read_text()}")
    profile = shared.profile(known_hosts=str(tmp_path / "known_hosts"))
    message = refused(profile)
    (old,), (new,) = pinned(profile), pinned(shared.profile())
    assert "HAS CHANGED" in message
    assert old.fingerprint in message
    assert new.fingerprint in message
    assert old.fingerprint != new.fingerprint
    assert "find out why" in message
    assert "--replace" in message


def test_an_identity_file_that_is_missing_is_named(shared: Sshd, tmp_path: Path) -> None:
    assert f"the key {tmp_path}/nothing cannot be read" in refused(
        shared.profile(identity_file=str(tmp_path / "nothing"))
    )


def test_a_key_that_others_may_read_is_said_to_be_so(shared: Sshd, tmp_path: Path) -> None:
    shutil.copy(shared.key, tmp_path / "open")
    (tmp_path / "open").chmod(0o644)
    message = refused(shared.profile(identity_file=str(tmp_path / "open")))
    assert "others may read it" in message
    assert f"chmod 600 {tmp_path / 'open'}" in message


def test_a_file_of_pinned_keys_that_cannot_be_read_is_named(shared: Sshd, tmp_path: Path) -> None:
    assert f"the pinned host keys in {tmp_path} cannot be read" in refused(shared.profile(known_hosts=str(tmp_path)))


def test_a_machine_without_ssh_is_told_what_to_install(shared: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = shared.profile()
    monkeypatch.setenv("PATH", "/nowhere")
    assert "openssh-client" in refused(profile)


def test_a_board_without_host_is_the_profiles_fault(shared: Sshd) -> None:
    with (
        pytest.raises(ConfigError, match="board 'board-1' has no host"),
        open_ssh(shared.profile(board={"host": None})),
    ):
        pass


def test_a_user_whose_shell_runs_nothing_is_told_in_its_words(sshd: Sshd) -> None:
    keys = sshd.folder / "authorized_keys"
    keys.write_text(f'command="echo This account is not available.; exit 1" {keys.read_text()}')
    message = refused(sshd.profile())
    assert "its shell does not run commands: This account is not available." in message


def test_a_menu_instead_of_a_shell_is_told_in_its_words(sshd: Sshd) -> None:
    keys = sshd.folder / "authorized_keys"
    keys.write_text(f'command="echo choose 1 or 2; read choice" {keys.read_text()}')
    with pytest.raises(BoardError, match="its shell does not run commands: choose 1 or 2") as caught:
        SshTarget(sshd.profile(connect_timeout=1))
    assert not isinstance(caught.value, UnreachableError)  # waiting does not help
    assert "ForceCommand" in caught.value.remedy


def test_a_shell_that_never_answers_is_told_apart_from_a_board_that_does_not_let_us_in(sshd: Sshd) -> None:
    keys = sshd.folder / "authorized_keys"
    keys.write_text(f'command="read nothing" {keys.read_text()}')
    with pytest.raises(UnreachableError, match="lets us in, but its shell does not answer within 1 s"):
        SshTarget(sshd.profile(connect_timeout=1))


def test_nothing_is_left_of_a_connection_that_could_not_be_made(shared: Sshd) -> None:
    refused(shared.profile(port=free_port()))
    assert mine() == []


def mine() -> list[Path]:
    """Return the folders of sockets that belong to this process."""
    return [each for each in bench.private_folder().glob("ssh-*") if owner(each) == os.getpid()]


def owner(folder: Path) -> int:
    """Return the process that a folder of sockets belongs to, 0 when it is gone."""
    with suppress(OSError, ValueError):
        return int((folder / "owner").read_text().split()[0])
    return 0


# --- commands ---------------------------------------------------------------------------------------------------------


def test_bytes_that_are_no_text_arrive_as_they_are(shared: Sshd) -> None:
    with open_ssh(shared.profile()) as target:
        done = target.run(["printf", "%s", os.fsdecode(b"\xff\xfe caf\xe9")])
    assert done.stdout == b"\xff\xfe caf\xe9"


def test_a_command_longer_than_one_argument_can_be_arrives_with_its_input(shared: Sshd) -> None:
    words = ["it's"] * 60_000
    with open_ssh(shared.profile()) as target:
        done = target.run(["sh", "-c", 'echo $# "$3"; cat', "sh", *words], stdin=b"input\0\n")
    assert done.stdout == b"60000 it's\ninput\0\n"


def test_what_a_shells_start_files_print_is_not_the_commands(sshd: Sshd) -> None:
    (sshd.home / ".bashrc").write_text("printf 'Welcome!'; echo to the board >&2\n")
    (sshd.home / ".zshenv").write_text("echo Welcome; echo to the board >&2\n")
    with open_ssh(sshd.profile()) as target:
        done = target.run(["sh", "-c", "echo out; printf err >&2"])
    assert (done.stdout, done.stderr) == (b"out\n", b"err")


def test_a_shells_own_commands_do_not_stand_in_for_programs(shared: Sshd) -> None:
    with open_ssh(shared.profile()) as target:
        assert target.run(["A=b", "true"]).exit_code == 127
        assert target.run(["if", "true"]).exit_code == 127
        assert target.run(["cd", "/"]).exit_code == 127


def test_two_targets_do_not_disturb_each_other(shared: Sshd, sshd: Sshd) -> None:
    with open_ssh(shared.profile()) as one:
        with open_ssh(sshd.profile()) as other:
            homes = [target.run(["printenv", "HOME"]).text for target in (one, other, one)]
        assert homes == [str(shared.home), str(sshd.home), str(shared.home)]
        assert one.run(["echo", "still here"]).text == "still here"


def test_no_command_line_of_ours_weakens_the_check_of_host_keys(shared: Sshd) -> None:
    with open_ssh(shared.profile()) as target:
        (fifo := shared.home / "fifo").unlink(missing_ok=True)
        os.mkfifo(fifo)
        lines: list[list[str]] = []

        def look() -> None:
            lines.extend(words for words in command_lines(str(bench.private_folder())) if words[0].endswith("ssh"))
            fifo.write_text("go\n")

        with once(lambda: len(command_lines(f"cat {fifo}")) > 0, look):
            target.run(["cat", str(fifo)])
    checks = {word for words in lines for word in words if word.startswith("StrictHostKeyChecking=")}
    assert checks == {"StrictHostKeyChecking=yes"}


def test_sshd_that_allows_no_second_session_is_the_boards_fault(tmp_path: Path) -> None:
    with (
        running_sshd(tmp_path / "sshd", more="MaxSessions 1\n") as sshd,
        open_ssh(sshd.profile()) as target,
        pytest.raises(TargetError, match="MaxSessions"),
    ):
        target.run(["true"])


def test_a_cancelled_command_is_ended_on_the_board(shared: Sshd, tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def cancel(number: int, _frame: object) -> None:
        raise Cancelled(number)

    previous = signal.signal(signal.SIGUSR1, cancel)
    try:
        with open_ssh(shared.profile()) as target:
            here = threading.main_thread().ident
            assert here is not None
            with (
                once(pids.exists, lambda: signal.pthread_kill(here, signal.SIGUSR1)),
                pytest.raises(Cancelled),
            ):
                target.run(["sh", "-c", f"sleep 60 & echo $! $$ >{pids}.new; mv {pids}.new {pids}; wait"])
            until(lambda: not any(runs(int(pid)) for pid in pids.read_text().split()), "all are gone")
            assert target.run(["echo", "here"]).text == "here"
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_a_signal_that_comes_while_a_command_is_being_started_leaves_none_behind(
    shared: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def start(*words: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(real(*words, **options))
        signal.raise_signal(signal.SIGTERM)
        return started[-1]

    def cancel(number: int, _frame: object) -> None:
        raise Cancelled(number)

    previous = signal.signal(signal.SIGTERM, cancel)
    try:
        with open_ssh(shared.profile()) as target, monkeypatch.context() as patched:
            patched.setattr(subprocess, "Popen", start)
            with pytest.raises(Cancelled):
                target.run(["sleep", "60"])
            assert started[0].returncode is not None  # it was ended, and waited for
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_a_command_is_ended_too_where_the_board_gives_it_no_session_of_its_own() -> None:
    script = "sleep 60 & sh -c 'sleep 60 & wait' & wait"
    with subprocess.Popen(["sh", "-c", script]) as process:
        family = until(lambda: pids if len(pids := descendants(process.pid)) == 3 else None, "all have started")
        started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
        LocalTarget().run(["sh", "-c", END_ONE, "sh", str(process.pid), "1"])
        assert all(runs(pid) for pid in [process.pid, *family])  # another one had that number
        LocalTarget().run(["sh", "-c", END_ONE, "sh", str(process.pid), started])
        assert process.wait(10) == -signal.SIGKILL
    until(lambda: not any(runs(pid) for pid in family), "its descendants are gone")


def descendants(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    direct = [int(each) for each in text.split()]
    return [*direct, *(below for each in direct for below in descendants(each))]


# --- a link that breaks -----------------------------------------------------------------------------------------------

BREAK = {
    "cut on the way": lambda sshd, proxy: proxy.cut(),
    "its sshd killed": lambda sshd, proxy: sshd.kill_sessions(),
}


@pytest.fixture(params=list(BREAK))
def breaks(request: pytest.FixtureRequest, sshd: Sshd) -> Iterator[tuple[Profile, Callable[[], object]]]:
    """A profile whose link goes through a proxy, and what breaks it."""
    with running_proxy(sshd.port) as proxy:
        yield sshd.profile(port=proxy.port), lambda: BREAK[request.param](sshd, proxy)


def first_time_hangs(folder: Path) -> list[str]:
    """Return a command that counts its runs; the first one hangs."""
    script = f"cd {shlex.quote(str(folder))}; echo $$ >>pids; [ $(wc -l <pids) -gt 1 ] || sleep 60; echo done"
    return ["sh", "-c", script]


def test_a_command_that_must_not_run_twice_is_not_run_again(
    breaks: tuple[Profile, Callable[[], object]], tmp_path: Path
) -> None:
    profile, break_it = breaks
    with open_ssh(profile) as target:
        with (
            once((tmp_path / "pids").exists, break_it),
            pytest.raises(TargetError, match=r"lost in the middle of .*; the command may or may not have run"),
        ):
            target.run(first_time_hangs(tmp_path))
        assert target.run(["echo", "here"]).text == "here"
    (pid,) = (tmp_path / "pids").read_text().split()
    until(lambda: not runs(int(pid)), "the one that was lost is ended once the board is reached again")


def test_a_repeatable_command_is_run_again_and_the_first_one_ended(
    breaks: tuple[Profile, Callable[[], object]], tmp_path: Path
) -> None:
    profile, break_it = breaks
    with open_ssh(profile) as target, once((tmp_path / "pids").exists, break_it):
        done = target.run(first_time_hangs(tmp_path), repeatable=True)
    first, _ = (tmp_path / "pids").read_text().split()
    assert done.text == "done"
    assert not runs(int(first))


def test_a_link_that_broke_between_two_commands_is_made_anew_without_a_word(sshd: Sshd) -> None:
    with open_ssh(sshd.profile()) as target:
        assert target.run(["echo", "here"]).text == "here"
        (folder,) = mine()
        sshd.kill_sessions()
        until(lambda: not command_lines(str(folder)), "ssh has noticed")
        assert target.run(["echo", "there"]).text == "there"


def test_a_board_that_is_gone_for_good_is_said_to_be(sshd: Sshd) -> None:
    with open_ssh(sshd.profile()) as target:
        sshd.kill_sessions()
        sshd.stop()
        with pytest.raises(BoardError, match="refuses connections"):
            target.run(["true"], repeatable=True)


def test_a_network_that_swallows_everything_is_noticed_by_the_signs_of_life(
    shared: Sshd, proxy: TcpProxy, tmp_path: Path
) -> None:
    with open_ssh(shared.profile(port=proxy.port, keep_alive=1)) as target:
        with (
            once((tmp_path / "pids").exists, proxy.blackhole),
            pytest.raises(TargetError, match=r"lost in the middle of .*: Timeout, server 127\.0\.0\.1 not responding"),
        ):
            target.run(first_time_hangs(tmp_path), timeout=60)
        proxy.blackhole(False)
        assert target.run(["echo", "here"]).text == "here"


def test_a_detached_process_outlives_the_connection(shared: Sshd, tmp_path: Path) -> None:
    with open_ssh(shared.profile()) as target:
        process = spawn_detached(
            target, ["sleep", "60"], environment={}, log=str(tmp_path / "log"), pid_file=str(tmp_path / "pid")
        )
    with open_ssh(shared.profile()) as target:
        assert is_alive(target, process)
        assert stop(target, process) == "stopped"


# --- a board that reboots ---------------------------------------------------------------------------------------------


def reboot(sshd: Sshd) -> None:
    """Go away, and come back once somebody has called in vain several times."""
    sshd.stop()
    sshd.kill_sessions()
    # While it is away a stranger has its port, who notices the calls and hangs up.
    with socket.create_server(("127.0.0.1", sshd.port)) as stranger:
        for _ in range(3):
            stranger.accept()[0].close()
    sshd.start()


def test_a_repeatable_command_waits_for_a_board_that_reboots(sshd: Sshd, tmp_path: Path) -> None:
    with (
        open_ssh(sshd.profile(reboot_timeout=30)) as target,
        once((tmp_path / "pids").exists, lambda: reboot(sshd)),
    ):
        assert target.run(first_time_hangs(tmp_path), repeatable=True).text == "done"


def test_the_next_command_waits_for_a_board_that_reboots(sshd: Sshd, tmp_path: Path) -> None:
    with (
        open_ssh(sshd.profile(reboot_timeout=30)) as target,
        once((tmp_path / "pids").exists, lambda: reboot(sshd)),
    ):
        with pytest.raises(TargetError, match="may or may not have run"):
            target.run(first_time_hangs(tmp_path))
        assert target.run(["echo", "back"]).text == "back"


# --- nothing is left --------------------------------------------------------------------------------------------------

HOLDER = """
import sys, msgspec
from roboticks_tasks.profiles.values import Profile
from roboticks_tasks.targets.ssh import open_ssh
with open_ssh(msgspec.json.decode(sys.argv[1], type=Profile)) as target:
    target.run(["sh", "-c", sys.argv[2]], timeout=60)
"""


def test_nothing_outlives_a_holder_that_is_killed(shared: Sshd, tmp_path: Path) -> None:
    import msgspec

    pids = shlex.quote(str(tmp_path / "pids"))
    script = f"sleep 60 & echo $! $$ >{pids}.new; mv {pids}.new {pids}; wait"
    profile = msgspec.json.encode(shared.profile()).decode()
    with subprocess.Popen([sys.executable, "-c", HOLDER, profile, script]) as holder:
        until((tmp_path / "pids").exists, "the command runs")
        (folder,) = [each for each in bench.private_folder().glob("ssh-*") if owner(each) == holder.pid]
        assert command_lines(str(folder))
        holder.kill()
    until(lambda: not command_lines(str(folder)), "no ssh is left")
    remote = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    until(lambda: not any(runs(pid) for pid in remote), "nothing of it runs on the board")


def test_the_next_one_sweeps_the_sockets_of_those_that_were_killed(
    shared: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as private:
        monkeypatch.setattr(bench, "private_folder", lambda: Path(private))
        names = {"ssh-dead": f"{os.getpid()} 1", "ssh-link-living": None, "ssh-half": "", "console-0": "1 1"}
        for name, text in names.items():
            (Path(private) / name).mkdir()
            started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
            (Path(private) / name / "owner").write_text(f"{os.getpid()} {started}" if text is None else text)
        with open_ssh(shared.profile()) as target:
            assert target.run(["true"]).ok
        assert {path.name for path in Path(private).iterdir()} == set(names) - {"ssh-dead"}


def test_nothing_is_left_after_the_end(shared: Sshd) -> None:
    with open_ssh(shared.profile()) as target:
        target.run(["true"])
        (folder,) = mine()
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    assert not command_lines(str(folder))


# --- the user's own config --------------------------------------------------------------------------------------------

HOSTILE = """
Host *
    RequestTTY yes
    RemoteCommand echo hijacked
    ControlMaster auto
    ControlPath {folder}/control
    ControlPersist yes
    PermitLocalCommand yes
    LocalCommand touch {folder}/local-command
    ForwardAgent yes
    LogLevel QUIET
    StrictHostKeyChecking no
    UserKnownHostsFile {folder}/weak_known_hosts
    LocalForward 127.0.0.1:{port} 127.0.0.1:1
    ExitOnForwardFailure yes
    StdinNull yes
    ForkAfterAuthentication yes
    SessionType none
    FingerprintHash md5
"""

UNTRUSTING = """
Match all
    StrictHostKeyChecking no
    UserKnownHostsFile {weak}
    GlobalKnownHostsFile {weak}
    KnownHostsCommand /bin/cat {weak}
    NoHostAuthenticationForLocalhost yes
    HostKeyAlias another-name
    VerifyHostKeyDNS yes
    UpdateHostKeys yes
    CheckHostIP yes
    HashKnownHosts yes
"""


def test_a_config_with_other_habits_changes_nothing(shared: Sshd, ssh_config: Path, tmp_path: Path) -> None:
    ssh_config.write_text(HOSTILE.format(folder=tmp_path, port=shared.port))
    with open_ssh(shared.profile()) as target:
        assert target.run(["tty"]).text == "not a tty"
        (folder,) = mine()
        assert target.run(["cat"], stdin=b"~.\r\n").stdout == b"~.\r\n"
        assert target.run(["sleep", "0.2"]).ok
        assert mine() == [folder]  # it is still the first connection
    assert not command_lines(str(folder))
    make_key(tmp_path / "other")
    (tmp_path / "known_hosts").write_text(f"{ALIAS} {(tmp_path / 'other.pub').read_text()}")
    message = refused(shared.profile(known_hosts=str(tmp_path / "known_hosts")))
    assert "HAS CHANGED" in message
    assert pinned(shared.profile())[0].fingerprint in message
    left = {path.name for path in tmp_path.iterdir()}
    assert not left & {"control", "local-command", "weak_known_hosts"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_config_makes_us_trust_a_key_that_is_not_pinned(
    shared: Sshd, ssh_config: Path, tmp_path: Path, host: str
) -> None:
    (tmp_path / "weak").write_text(f"*,{ALIAS},another-name {shared.host_key}\n")
    (tmp_path / "weak").chmod(0o600)
    ssh_config.write_text(UNTRUSTING.format(weak=tmp_path / "weak"))
    profile = shared.profile(board={"host": host})
    with open_ssh(profile) as target:
        assert target.run(["true"]).ok
    assert [key.line for key in offered(profile)] == [f"{ALIAS} {shared.host_key}"]
    make_key(tmp_path / "other")
    pins, profile = tmp_path / "pins", shared.profile(board={"host": host}, known_hosts=str(tmp_path / "pins"))
    pins.write_text(f"another-board {shared.host_key}\n")
    assert f"no host key is pinned for {ALIAS}" in refused(profile)
    pins.write_text(f"{ALIAS} {(tmp_path / 'other.pub').read_text()}")
    assert "HAS CHANGED" in refused(profile)


def test_an_option_that_this_ssh_does_not_know_is_no_hindrance(shared: Sshd, ssh_config: Path) -> None:
    ssh_config.write_text("UseKeychain yes\n")
    with open_ssh(shared.profile()) as target:
        assert target.run(["true"]).ok


def test_the_users_language_does_not_reach_the_board(
    tmp_path: Path, ssh_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh_config.write_text("SendEnv LANG LC_*\n")
    for name in ("LANG", "LC_ALL", "LC_MESSAGES"):
        monkeypatch.setenv(name, "de_DE.UTF-8")
    with running_sshd(tmp_path / "sshd", more="AcceptEnv LANG LC_*\n") as sshd, open_ssh(sshd.profile()) as target:
        assert "de_DE" not in target.run(["env"]).text


def test_a_host_of_the_config_is_reached_by_its_name_there(shared: Sshd, ssh_config: Path) -> None:
    ssh_config.write_text(f"Host bench-pi\n HostName 127.0.0.1\n Port {shared.port}\n User {shared.user}\n")
    with open_ssh(shared.profile(board={"host": "bench-pi"}, port=None, user=None)) as target:
        assert target.run(["echo", "here"]).text == "here"


def jump_config(jump: Sshd, **changed: Any) -> str:
    (jump.folder / "gateway").write_text(f"gateway {jump.host_key}\n")
    facts = {
        "HostName": "127.0.0.1",
        "Port": jump.port,
        "User": jump.user,
        "IdentityFile": jump.key,
        "IdentitiesOnly": "yes",
        "HostKeyAlias": "gateway",
        "UserKnownHostsFile": jump.folder / "gateway",
    } | changed
    return "Host gateway\n" + "".join(f"  {name} {value}\n" for name, value in facts.items())


def test_a_board_is_reached_through_a_jump_host(shared: Sshd, sshd: Sshd, ssh_config: Path) -> None:
    ssh_config.write_text(jump_config(sshd))
    with open_ssh(shared.profile(jump="gateway")) as target:
        assert target.run(["printenv", "HOME"]).text == str(shared.home)
    assert "Accepted publickey" in sshd.log  # it went through


def test_the_profiles_jump_host_beats_the_configs_own_way(shared: Sshd, sshd: Sshd, ssh_config: Path) -> None:
    board = "Host board\n  HostName 127.0.0.1\n  ProxyCommand false\n  ProxyUseFdpass yes\n"
    ssh_config.write_text(f"{jump_config(sshd)}\n{board}")
    with open_ssh(shared.profile(jump="gateway", board={"host": "board"})) as target:
        assert target.run(["true"]).ok


def test_the_key_of_a_board_behind_a_jump_host_is_that_of_the_board(shared: Sshd, sshd: Sshd, ssh_config: Path) -> None:
    ssh_config.write_text(jump_config(sshd))
    (key,) = offered(shared.profile(jump="gateway"))
    assert key.line == f"{ALIAS} {shared.host_key}"


def test_a_jump_host_that_fails_is_named_with_the_reason(shared: Sshd, sshd: Sshd, ssh_config: Path) -> None:
    port, empty = free_port(), sshd.folder / "empty"
    empty.touch()
    make_key(sshd.folder / "foreign")
    for changed, reason in (
        ({"Port": port}, "the jump host gateway cannot be reached: Connection refused"),
        ({"IdentityFile": sshd.folder / "foreign"}, "the jump host gateway refuses this user's key"),
        ({"UserKnownHostsFile": empty, "StrictHostKeyChecking": "yes"}, "does not know the host key of the jump host"),
    ):
        ssh_config.write_text(jump_config(sshd, **changed))
        assert reason in refused(shared.profile(jump="gateway"))
    ssh_config.write_text(jump_config(sshd))
    assert "the jump host gateway cannot reach board-1" in refused(shared.profile(jump="gateway", port=port))


def test_the_boards_own_mistakes_are_told_as_such_behind_a_jump_host(
    shared: Sshd, sshd: Sshd, ssh_config: Path
) -> None:
    ssh_config.write_text(jump_config(sshd))
    make_key(sshd.folder / "foreign")
    message = refused(shared.profile(jump="gateway", identity_file=str(sshd.folder / "foreign")))
    assert f"{ALIAS} (127.0.0.1:{shared.port}) refuses {shared.user}" in message
    (sshd.folder / "nothing").write_text("# nothing\n")
    message = refused(shared.profile(jump="gateway", known_hosts=str(sshd.folder / "nothing")))
    assert f"no host key is pinned for {ALIAS}" in message
