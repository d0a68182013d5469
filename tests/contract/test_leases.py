"""Runs that meet at boards, each a process of its own: who gets which one, who waits, and what a death frees."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import msgspec
import pytest

from roboticks_tasks import bench
from roboticks_tasks.boards import holder, lease, locks
from roboticks_tasks.boards.quarantine import free, note_failure
from roboticks_tasks.boards.resources import LockFile, lock_files
from roboticks_tasks.errors import BoardInUseError, BoardQuarantinedError, ConfigError
from roboticks_tasks.profiles import Profile, candidates

NOBODY = 65534

PLAYER = """
import json, logging, os, sys
import msgspec
from pathlib import Path
from roboticks_tasks.boards import lease
from roboticks_tasks.errors import RoboticksError
from roboticks_tasks.profiles import Profile, board_of
import tenacity, getpass, _strptime
profile = msgspec.convert(json.loads(sys.argv[1]), Profile)
if user := int(sys.argv[4]):
    os.setgroups([]), os.setgid(user), os.setuid(user)
os.umask(0o077)
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)
print("ready", flush=True)
sys.stdin.readline()
try:
    with lease(profile, run=Path(sys.argv[2]), wait=float(sys.argv[3])) as leased:
        print("has", board_of(leased).id, flush=True)
        sys.stdin.readline()
    print("done", flush=True)
except RoboticksError as error:
    print("refused", error, flush=True)
"""


class Player:
    """A run in another process, which does the next thing when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid
        assert self.hears() == "ready"

    def hears(self) -> str:
        """Return the next line that it says, after as long as it takes."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def tell(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()

    def plays(self) -> str:
        """Let it ask for a board and return what became of that."""
        self.tell()
        return self.hears()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def player(profile: Profile, name: str, *, wait: float = 0.0, user: int = 0) -> Iterator[Player]:
    words = [
        sys.executable,
        "-c",
        PLAYER,
        json.dumps(msgspec.to_builtins(profile)),
        f"/runs/{name}",
        str(wait),
        str(user),
    ]
    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        try:
            yield Player(process)
        finally:
            process.kill()


def ssh(*hosts: str, name: str = "jetson", **extra: object) -> Profile:
    """Return a profile with an SSH board per host, named by the host's first word."""
    boards = [{"id": host.partition(".")[0].lower(), "host": host, **extra} for host in hosts]
    return msgspec.convert({"name": name, "target": {"kind": "ssh"}, "boards": boards}, Profile)


def console(port: str, *, kind: str = "serial", name: str = "probe", **extra: object) -> Profile:
    board = {"id": "board", "console": {"port": port}, **extra}
    root = {"root": "/dev/null/nowhere"}  # of a local target it would be a lock too, where it can be made
    document = {"name": name, "target": {"kind": kind}, "device_manager": root, "boards": [board]}
    return msgspec.convert(document, Profile)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a bench of its own."""
    monkeypatch.setenv(bench.VARIABLE, str(tmp_path / "bench"))
    return tmp_path / "bench"


def refusal(profile: Profile, *, board: str | None = None, wait: float = 0.0) -> str:
    with pytest.raises(BoardInUseError) as refused, lease(profile, run=Path("/runs/mine"), board=board, wait=wait):
        pytest.fail("the board was had twice")
    assert refused.value.exit_code == 20
    return str(refused.value)


def leased(profile: Profile, **options: object) -> str:
    """Have a board for a moment, and return which."""
    with lease(profile, run=Path("/runs/mine"), **options) as mine:  # type: ignore[arg-type] # options of `lease`
        (board,) = mine.boards
        return board.id


# --- one board --------------------------------------------------------------------------------------------------------


def test_the_second_run_on_a_board_is_refused_with_the_words_of_the_first() -> None:
    with player(ssh("a.lab", name="theirs"), "theirs") as other:
        assert other.plays() == "has a"
        message = refusal(ssh("a.lab"))
    assert f"board 'a' of profile 'jetson' is in use by run /runs/theirs, pid {other.pid}, " in message
    assert "+00:00, profile 'theirs', board 'a'; wait for that run to end" in message


def test_a_killed_run_frees_its_board_at_once_and_is_named_no_more() -> None:
    with player(ssh("a.lab"), "theirs") as other:
        assert other.plays() == "has a"
        other.kill()
        assert holder(ssh("a.lab")) is None
        assert leased(ssh("a.lab")) == "a"


def test_a_run_that_is_stopped_but_not_dead_keeps_its_board() -> None:
    with player(ssh("a.lab"), "theirs") as other:
        assert other.plays() == "has a"
        os.kill(other.pid, signal.SIGSTOP)
        assert "/runs/theirs" in refusal(ssh("a.lab"))
        os.kill(other.pid, signal.SIGCONT)


def test_who_waits_gets_the_board_when_its_holder_has_ended() -> None:
    with player(ssh("a.lab"), "first") as first, player(ssh("a.lab"), "second", wait=60) as second:
        assert first.plays() == "has a"
        assert second.plays().startswith(
            "waiting up to 60 s: board 'a' of profile 'jetson' is in use by run /runs/first"
        )
        assert first.plays() == "done"
        assert second.hears() == "has a"
        assert f"pid {second.pid}" in (holder(ssh("a.lab")) or "")


def test_who_waits_gets_the_board_when_its_holder_was_killed() -> None:
    with player(ssh("a.lab"), "first") as first, player(ssh("a.lab"), "second", wait=60) as second:
        assert first.plays() == "has a"
        assert second.plays().startswith("waiting ")
        first.kill()
        assert second.hears() == "has a"


def test_who_waits_in_vain_hears_who_holds_the_board_and_how_long_was_waited() -> None:
    with player(ssh("a.lab"), "theirs") as other:
        assert other.plays() == "has a"
        assert ", profile 'jetson', board 'a', still after 0.1 s; wait" in refusal(ssh("a.lab"), wait=0.1)


def test_a_signal_ends_the_waiting() -> None:
    with player(ssh("a.lab"), "first") as first, player(ssh("a.lab"), "second", wait=3600) as second:
        assert first.plays() == "has a"
        assert second.plays().startswith("waiting ")
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(timeout=20) == -signal.SIGTERM


@contextmanager
def told(answer: Callable[[str], object]) -> Iterator[None]:
    """Call `answer` with each line that a lease logs for people, as it logs it."""

    class Answering(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            answer(record.getMessage())

    of_lease, handler = logging.getLogger("roboticks_tasks.boards.lease"), Answering(logging.INFO)
    of_lease.addHandler(handler)
    of_lease.setLevel(logging.INFO)
    try:
        yield
    finally:
        of_lease.removeHandler(handler)
        of_lease.setLevel(logging.NOTSET)


def test_an_exception_of_a_signals_handler_ends_the_waiting_and_leaves_nothing_locked() -> None:
    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with player(ssh("a.lab"), "first") as first, told(lambda _: signal.raise_signal(signal.SIGUSR1)):
            assert first.plays() == "has a"
            waiting = lease(ssh("a.lab", console={"port": "/dev/ttyNone0"}), run=Path("mine"), wait=3600)
            with pytest.raises(KeyboardInterrupt), waiting:
                pytest.fail("the board was had twice")
            assert leased(console("/dev/ttyNone0")) == "board"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_is_waited_for_is_told_once_and_again_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    looks = iter(range(1000))
    take = locks.take
    with player(ssh("a.lab"), "first") as first, player(ssh("a.lab"), "second", wait=60) as second:
        assert first.plays() == "has a"
        assert second.plays().startswith("waiting ")

        def tell(line: str) -> None:
            lines.append(line)
            if len(lines) == 1:
                assert [first.plays(), second.hears()] == ["done", "has a"]

        def end_in_time(files: Iterable[LockFile], held: list[int]) -> str | None:
            if len(lines) > 1 and next(looks) == 3:
                assert second.plays() == "done"
            return take(files, held)

        monkeypatch.setattr(locks, "take", end_in_time)
        with told(tell):
            assert leased(ssh("a.lab"), wait=60) == "a"
    assert len(lines) == 2
    assert lines[0].startswith("waiting up to 60 s: board 'a' of profile 'jetson' is in use by run /runs/first, pid ")
    assert lines[1].startswith("waiting up to 60 s: board 'a' of profile 'jetson' is in use by run /runs/second, pid ")


def test_who_is_refused_at_once_or_waits_for_the_same_run_is_told_no_more_than_once() -> None:
    lines: list[str] = []
    with player(ssh("a.lab"), "theirs") as other, told(lines.append):
        assert other.plays() == "has a"
        refusal(ssh("a.lab"))
        assert lines == []
        refusal(ssh("a.lab"), wait=0.3)
        assert len(lines) == 1


def test_a_look_at_who_holds_a_board_holds_and_makes_nothing(folder: Path) -> None:
    assert holder(ssh("a.lab")) is None
    assert not folder.exists()
    with lease(ssh("a.lab"), run=Path("/runs/mine")) as mine:
        words = holder(mine) or ""
    assert words.startswith(f"run /runs/mine, pid {os.getpid()}, ")
    assert holder(ssh("a.lab")) is None


def test_looks_at_the_board_do_not_get_a_run_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real, looks = fcntl.flock, [1, 2, 3, 4, 5]

    def looked_at(lock: int, how: int) -> None:
        if looks:
            looks.pop()
            raise BlockingIOError
        real(lock, how)

    monkeypatch.setattr(fcntl, "flock", looked_at)
    module = import_module("roboticks_tasks.boards.lease")  # the name in the package is the function
    monkeypatch.setattr(module, "GLANCE", 60)
    monkeypatch.setattr(module, "PACE", 0.001)
    assert leased(ssh("a.lab")) == "a"


def test_a_free_board_is_had_without_the_library_for_waiting(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from roboticks_tasks.boards import lease
from roboticks_tasks.profiles import Profile
from roboticks_tasks.profiles.values import DeviceManagerSpec
with lease(Profile(device_manager=DeviceManagerSpec(root=sys.argv[1])), run=Path("mine"), wait=60):
    print("tenacity" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(words, capture_output=True, check=True, env=environment).stdout == b"False\n"


# --- several boards ---------------------------------------------------------------------------------------------------


def test_two_runs_have_two_boards_at_the_same_time() -> None:
    with player(ssh("a.lab", "b.lab"), "first") as first, player(ssh("a.lab", "b.lab"), "second") as second:
        assert [first.plays(), second.plays()] == ["has a", "has b"]
        message = refusal(ssh("a.lab", "b.lab"))
    assert f"board 'a' of profile 'jetson' is in use by run /runs/first, pid {first.pid}, " in message
    assert f"board 'b' of profile 'jetson' is in use by run /runs/second, pid {second.pid}, " in message


@pytest.mark.parametrize("freed", [0, 1])
def test_the_third_run_on_two_boards_gets_the_one_that_is_free_first(freed: int) -> None:
    two = ssh("a.lab", "b.lab")
    with player(two, "1") as first, player(two, "2") as second, player(two, "3", wait=60) as third:
        assert [first.plays(), second.plays()] == ["has a", "has b"]
        assert third.plays().startswith("waiting up to 60 s: board 'a'")
        (first, second)[freed].tell()
        assert third.hears() == f"has {'ab'[freed]}"


def test_each_of_many_runs_gets_a_board_in_the_end_and_none_is_had_twice(tmp_path: Path) -> None:
    two = ssh("a.lab", "b.lab")
    script = PLAYER.replace(
        "        sys.stdin.readline()\n    print",
        f"        path = Path({str(tmp_path)!r}, board_of(leased).id)\n"
        "        path.mkdir()\n        __import__('time').sleep(0.02)\n        path.rmdir()\n    print",
    )
    words = [sys.executable, "-c", script, json.dumps(msgspec.to_builtins(two)), "/runs/any", "60", "0"]
    pipe = subprocess.PIPE
    runs = [subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(6)]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("\n")
        run.stdin.flush()
    said = [run.communicate(timeout=120) for run in runs]
    assert [(out.splitlines()[-1], err) for out, err in said] == [("done", "")] * 6


def test_a_chosen_board_is_the_only_one_that_will_do() -> None:
    two = ssh("a.lab", "b.lab")
    assert leased(two, board="b") == "b"
    with player(candidates(two, "b")[0], "theirs") as other:
        assert other.plays() == "has b"
        assert "board 'a'" not in refusal(two, board="b")
    with pytest.raises(ConfigError, match=r"has no board 'c'; did you mean|has no board 'c'; known: a, b"):
        leased(two, board="c")


def test_local_boards_have_a_folder_each() -> None:
    with tempfile.TemporaryDirectory() as folder:
        document = {
            "name": "sims",
            "boards": [{"id": "a"}, {"id": "b"}],
            "device_manager": {"root": f"{folder}/{{board}}"},
        }
        profile = msgspec.convert(document, Profile)
        with lease(profile, run=Path("1")) as one, lease(profile, run=Path("2")) as two:
            roots = [each.device_manager.root for each in (one, two)]
        assert roots == [f"{folder}/a", f"{folder}/b"]


# --- one board under several names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "mine"),
    [
        (ssh("a.lab"), ssh("A.Lab", name="nightly")),
        (ssh("a.lab"), ssh("a.lab", port=22)),
        (console("/dev/null"), console("/dev/../dev/null", kind="local")),
        (console("socket://lab:4000"), console("rfc2217://LAB:4000?logging=debug", name="other")),
        (console("/dev/ttyNone1"), ssh("a.lab", console={"port": "/dev/ttyNone1"})),
        (ssh("a.lab", identity={"serial": "0042"}), ssh("10.0.0.7", identity={"serial": "0042"})),
        (ssh("a.lab", identity={"mac": "AA:bb:cc:00:11:22"}), ssh("10.0.0.7", identity={"mac": "aa:bb:cc:00:11:22"})),
    ],
    ids=["case", "default port", "path", "server of ports", "console of another kind", "serial number", "address"],
)
def test_two_names_of_one_board_meet(theirs: Profile, mine: Profile) -> None:
    with player(theirs, "theirs") as other:
        assert other.plays().startswith("has ")
        assert "/runs/theirs" in refusal(mine)


@pytest.mark.parametrize(
    ("theirs", "mine"),
    [
        (ssh("a.lab"), ssh("b.lab")),
        (ssh("a.lab"), ssh("a.lab", port=2222)),
        (console("/dev/ttyNone1"), console("/dev/ttyNone2")),
        (console("socket://lab:4000"), console("socket://lab:4001")),
        (
            console("/dev/ttyNone1", kind="local", identity={"serial": "1"}),
            console("/dev/ttyNone2", kind="local", identity={"serial": "1"}),
        ),
    ],
    ids=["hosts", "ports", "consoles", "ports of a server", "two beside one machine"],
)
def test_two_boards_do_not_meet(theirs: Profile, mine: Profile, tmp_path: Path) -> None:
    def rooted(profile: Profile, name: str) -> Profile:
        manager = msgspec.structs.replace(profile.device_manager, root=str(tmp_path / name))
        return msgspec.structs.replace(profile, device_manager=manager)

    with player(rooted(theirs, "theirs"), "theirs") as other:
        assert other.plays().startswith("has ")
        assert leased(rooted(mine, "mine"))


def test_a_port_that_came_back_under_another_number_is_the_same_by_its_link(tmp_path: Path) -> None:
    link = tmp_path / "by-id"
    link.symlink_to("/dev/ttyNone0")
    with player(console(str(link)), "theirs") as other:
        assert other.plays() == "has board"
        assert "/runs/theirs" in refusal(console("/dev/ttyNone0"))
        link.unlink()
        link.symlink_to("/dev/ttyNone1")
        assert "/runs/theirs" in refusal(console(str(link)))


def test_two_microcontrollers_beside_one_machine_do_not_share_a_folder() -> None:
    boards = [{"id": name, "console": {"port": f"/dev/ttyNone{name}"}} for name in "12"]
    profile = msgspec.convert({"name": "mcu", "device_manager": {"kind": "firmware"}, "boards": boards}, Profile)
    with lease(profile, run=Path("/runs/one")) as one, lease(profile, run=Path("/runs/two")) as two:
        assert [one.boards[0].id, two.boards[0].id] == ["1", "2"]


def test_a_board_of_which_one_part_is_held_is_let_go_with_all_its_parts() -> None:
    both = ssh("a.lab", console={"port": "/dev/ttyNone0"})
    for part, other_part in ((console("/dev/ttyNone0"), ssh("a.lab")), (ssh("a.lab"), console("/dev/ttyNone0"))):
        with player(part, "theirs") as other:
            assert other.plays().startswith("has ")
            assert "/runs/theirs" in refusal(both)
            assert leased(other_part)
        assert leased(both) == "a"


def test_where_only_the_board_without_host_or_console_is_named_the_profile_is_wrong() -> None:
    for kind, missing in (("ssh", "host"), ("serial", "console")):
        document = {"name": "x", "target": {"kind": kind}, "boards": [{"id": "a"}]}
        with pytest.raises(ConfigError, match=f"board 'a' has no {missing}"):
            leased(msgspec.convert(document, Profile))


# --- parked boards ----------------------------------------------------------------------------------------------------


def park(profile: Profile, board: str) -> None:
    (mine,) = candidates(profile, board)
    for _ in range(mine.quarantine.failures):
        note_failure(mine, "no answer by ssh")


def test_a_parked_board_is_passed_over_and_that_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    two = ssh("a.lab", "b.lab")
    park(two, "a")
    assert leased(two) == "b"
    assert "board a is passed over, it is parked until " in caplog.text


def test_where_all_boards_are_parked_no_time_is_spent_on_waiting() -> None:
    two = ssh("a.lab", "b.lab")
    park(two, "a")
    park(two, "b")
    with pytest.raises(BoardQuarantinedError) as refused:
        leased(two, wait=3600)
    message = str(refused.value)
    assert refused.value.exit_code == 21
    assert message.count("UTC after 3 failures in a row: no answer by ssh") == 2
    assert "; `roboticks-tasks doctor --profile jetson --board a` frees it when it passes" in message


def test_a_chosen_board_that_is_parked_is_refused_though_another_one_is_free() -> None:
    two = ssh("a.lab", "b.lab")
    park(two, "b")
    with pytest.raises(
        BoardQuarantinedError, match=r"board 'b' of profile 'jetson' is parked until .* --board b` frees"
    ):
        leased(two, board="b")


def test_who_looks_after_a_parked_board_can_borrow_it() -> None:
    park(ssh("a.lab"), "a")
    assert leased(ssh("a.lab"), borrow_quarantined=True) == "a"


def test_a_refused_run_hears_of_the_parked_board_beside_the_held_one() -> None:
    two = ssh("a.lab", "b.lab")
    park(two, "b")
    with player(two, "theirs") as other:
        assert other.plays() == "has a"
        assert "; board 'b' is parked until " in refusal(two)


def test_who_waits_gets_a_board_that_was_freed_from_quarantine() -> None:
    two = ssh("a.lab", "b.lab")
    park(two, "b")
    with player(two, "first") as first, player(two, "second", wait=60) as second:
        assert first.plays() == "has a"
        assert second.plays().startswith("waiting ")
        assert free(candidates(two, "b")[0])
        assert second.hears() == "has b"


# --- the bench's folder -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "TMPDIR", "HOME", "XDG_STATE_HOME"])
def test_nothing_of_a_users_own_environment_makes_two_boards_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv(bench.VARIABLE)
    monkeypatch.setattr(bench, "SHARED", (str(tmp_path / "shared"),))
    with lease(ssh("a.lab"), run=Path("/runs/theirs")):
        monkeypatch.setenv(variable, str(tmp_path))
        assert "/runs/theirs" in refusal(ssh("a.lab"))


def test_runs_of_two_users_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only root can become another user; for everyone else both runs are his own, and the file's rights are looked at.
    user = NOBODY if os.getuid() == 0 else 0
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o1777)
        monkeypatch.setenv(bench.VARIABLE, f"{name}/bench")
        with player(ssh("a.lab"), "theirs", user=user) as other:
            assert other.plays() == "has a"
            assert f"/runs/theirs, pid {other.pid}, " in refusal(ssh("a.lab"))
            other.kill()
        assert leased(ssh("a.lab")) == "a"
        with player(ssh("a.lab"), "again", user=user) as other:
            assert other.plays() == "has a"
        modes = {each.stat().st_mode & 0o777 for each in Path(name, "bench").iterdir()}
        assert modes == {0o666}


def test_a_link_in_the_locks_place_is_refused_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (file,) = lock_files(ssh("a.lab"))
    file.path.symlink_to(tmp_path / "victim")
    with pytest.raises(ConfigError, match=r"cannot be written: .*; `sudo chmod 666 .*`, or remove it"):
        leased(ssh("a.lab"))
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_pipe_in_the_locks_place_is_refused_and_blocks_nobody() -> None:
    (file,) = lock_files(ssh("a.lab"))
    os.mkfifo(file.path)
    with pytest.raises(ConfigError, match="cannot be written: not a file"):
        leased(ssh("a.lab"))


def test_a_lock_file_that_was_removed_while_it_was_being_taken_is_not_the_one_that_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (file,) = lock_files(ssh("a.lab"))
    real = fcntl.flock

    def remove_and_lock(lock: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        file.path.unlink()
        real(lock, how)

    monkeypatch.setattr(fcntl, "flock", remove_and_lock)
    with lease(ssh("a.lab"), run=Path("/runs/mine")), player(ssh("a.lab"), "theirs") as other:
        assert other.plays().startswith("refused board 'a' of profile 'jetson' is in use by run /runs/mine")


def test_the_words_of_another_user_move_no_cursor() -> None:
    with lease(ssh("a.lab"), run=Path("/runs/\x1b[2J\u202e\nmine")):
        message = refusal(ssh("a.lab"))
    assert message.isprintable()
    assert "run /runs/?[2J??mine, pid" in message


def test_a_lease_leaves_its_files_and_no_words_in_them(folder: Path) -> None:
    paths: Sequence[Path]
    with lease(ssh("a.lab", console={"port": "/dev/ttyNone0"}), run=Path("mine")):
        paths = sorted(folder.iterdir())
        assert all(each.read_text().count("\n") == 2 for each in paths)
    assert len(paths) == 2
    assert sorted(folder.iterdir()) == paths
    assert not any(each.read_text() for each in paths)
