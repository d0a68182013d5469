"""What every target does the same: commands, detached processes, a look at them, files, several commands at once."""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roboticks_tasks.errors import TargetError
from roboticks_tasks.targets import Completed, Target
from roboticks_tasks.targets import detached as processes
from roboticks_tasks.targets.batch import run_all
from roboticks_tasks.targets.detached import Detached, find_detached, is_alive, parse_pid_file, spawn_detached, stop
from roboticks_tasks.targets.files import Synced, exists, get, put, sync_tree
from roboticks_tasks.targets.watch import MOST_LOG, Look, watch
from tests.conditions import until
from tests.contract.targets import OPENERS

AWKWARD_WORDS = [
    "two words",
    'it\'s "quoted"',
    "new\nline\n",
    "$HOME `id` $(id) \\ * ? [a] ~",
    "",
    "-n",
    "--",
    "\u00fc\u2603\U0001f916",
    "\ttab ",
    ";&|<>(){}#!",
]


@pytest.fixture(scope="module", params=list(OPENERS))
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with OPENERS[request.param]() as opened:
        yield opened


class Robot:
    """A folder on the target, and a program that runs detached in it."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target = target
        self.folder = folder
        self.pid_file, self.log, self.state = (str(folder / name) for name in ("run/a.pid", "log/a.log", "a.json"))
        self.started: list[Detached] = []

    def start(self, script: str, **environment: str) -> Detached:
        """Run a shell script detached."""
        return self.spawn(["sh", "-c", script], **environment)

    def spawn(self, argv: Sequence[str], **environment: str) -> Detached:
        process = spawn_detached(
            self.target,
            argv,
            environment=environment,
            log=self.log,
            pid_file=self.pid_file,
            directory=str(self.folder),
        )
        self.started.append(process)
        return process

    def look(self, process: Detached, *, known: str = "", offset: int = 0, patience: float = 10.0) -> Look:
        """Watch it."""
        return watch(
            self.target,
            process,
            state_path=self.state,
            log_path=self.log,
            known_state=known,
            log_offset=offset,
            patience=patience,
        )

    def tell(self) -> None:
        """Let a program go on that reads from the pipe `go`."""
        end = until(self._writing_end, "the program reads from its pipe")
        os.write(end, b"go\n")
        os.close(end)

    def _writing_end(self) -> int | None:
        try:
            return os.open(self.folder / "go", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None

    def await_file(self, name: str) -> str:
        """Wait for a file that the program writes, and return its text."""
        path = self.folder / name
        until(lambda: path.exists() and path.read_text().endswith("\n"), f"{name} is written")
        return path.read_text()


@pytest.fixture
def robot(target: Target, tmp_path: Path) -> Iterator[Robot]:
    robot = Robot(target, tmp_path)
    os.mkfifo(tmp_path / "go")
    yield robot
    for process in robot.started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def runs(pid: int) -> bool:
    """Tell whether a process runs, zombies apart."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


# --- one command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", AWKWARD_WORDS)
def test_an_argument_arrives_as_it_is(target: Target, word: str) -> None:
    done = target.run(["printf", "%s|", "before", word, "after"])
    assert done == Completed(0, f"before|{word}|after|".encode(), b"")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), max_size=5))
def test_any_arguments_arrive_as_they_are(target: Target, words: list[str]) -> None:
    done = target.run(["printf", "%s\\0", "first", *words])
    assert done.stdout.split(b"\0")[1:-1] == [word.encode() for word in words]


def test_ten_megabytes_of_any_bytes_go_there_and_back(target: Target) -> None:
    content = bytes(range(256)) * 40_960
    done = target.run(["cat"], stdin=content, timeout=60)
    assert (done.exit_code, done.stderr, len(done.stdout)) == (0, b"", len(content))
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(content).digest()


def test_a_command_that_does_not_read_its_input_is_no_error(target: Target) -> None:
    assert target.run(["true"], stdin=bytes(1_000_000)).ok


def test_without_input_a_command_finds_its_end_at_once(target: Target) -> None:
    assert target.run(["wc", "-c"]).text == "0"


@pytest.mark.parametrize("code", [0, 1, 7, 254, 255])
def test_the_exit_code_is_that_of_the_command(target: Target, code: int) -> None:
    done = target.run(["sh", "-c", f"exit {code}"])
    assert done.exit_code == code
    assert done.ok is (code == 0)


def test_a_program_that_is_not_there_is_127(target: Target) -> None:
    done = target.run(["/nowhere/device-manager", "--version"])
    assert done.exit_code == 127
    assert "/nowhere/device-manager" in done.last_words
    assert "not found" in done.last_words


def test_a_program_that_cannot_be_executed_is_126(target: Target, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no program")
    done = target.run([str(tmp_path / "file")])
    assert done.exit_code == 126
    assert "ermission denied" in done.last_words


def test_output_and_errors_come_apart(target: Target) -> None:
    done = target.run(["sh", "-c", "echo out; echo first >&2; echo last >&2; exit 3"])
    assert done == Completed(3, b"out\n", b"first\nlast\n")
    assert (done.text, done.last_words) == ("out", "last")


def test_much_output_on_both_sides_blocks_nothing(target: Target) -> None:
    done = target.run(
        ["sh", "-c", "head -c 1000000 /dev/zero >&2; head -c 1000000 /dev/zero; cat"], stdin=bytes(500_000)
    )
    assert (len(done.stdout), len(done.stderr)) == (1_500_000, 1_000_000)


def test_what_no_text_can_hold_is_still_shown(target: Target) -> None:
    assert target.run(["printf", "\\377 ok"]).text == "\N{REPLACEMENT CHARACTER} ok"


def test_a_command_that_takes_too_long_is_ended_with_all_its_children(target: Target, tmp_path: Path) -> None:
    script = f"trap '' TERM; sleep 60 & echo $! $$ >{tmp_path}/pids; wait"
    with pytest.raises(TargetError, match=r"`sh -c .*` did not end within 1 s"):
        target.run(["sh", "-c", script], timeout=1)
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    until(lambda: not any(runs(pid) for pid in pids), "the command and its child are gone")


def test_a_command_after_one_that_took_too_long_is_answered(target: Target) -> None:
    with pytest.raises(TargetError):
        target.run(["sleep", "60"], timeout=0.05)
    assert target.run(["echo", "here"]).text == "here"


# --- detached processes -----------------------------------------------------------------------------------------------


def test_a_detached_process_outlives_its_command_and_is_found_by_its_pid_file(robot: Robot) -> None:
    process = robot.start("exec sleep 60")
    assert is_alive(robot.target, process)
    assert find_detached(robot.target, robot.pid_file) == process
    assert parse_pid_file(Path(robot.pid_file).read_text()) == process
    assert os.getsid(process.pid) == process.pid


def test_it_is_there_under_its_pid_from_its_first_instruction(robot: Robot) -> None:
    process = robot.start("echo $$ >own; cat run/a.pid >seen; echo >done; exec sleep 60")
    robot.await_file("done")
    assert (robot.folder / "own").read_text() == f"{process.pid}\n"
    assert parse_pid_file((robot.folder / "seen").read_text()) == process


@pytest.mark.parametrize("word", AWKWARD_WORDS)
def test_its_arguments_and_environment_arrive_as_they_are(robot: Robot, word: str) -> None:
    program = 'printf "%s|%s|" "$1" "$WORD" >words; echo >done'
    robot.spawn(["sh", "-c", program, "sh", word], WORD=word)
    robot.await_file("done")
    assert (robot.folder / "words").read_text() == f"{word}|{word}|"


def test_its_environment_holds_nothing_of_ours(robot: Robot) -> None:
    robot.start("env >environment; echo >done", MINE="1")
    robot.await_file("done")
    names = {line.partition("=")[0] for line in (robot.folder / "environment").read_text().splitlines()}
    assert "MINE" in names
    assert not {"IDENTITY_FUNCTION", "PID_FILE"} & names


def test_it_has_no_open_files_but_its_log(robot: Robot) -> None:
    robot.start("exec sleep 60")
    (process,) = robot.started
    until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "the program runs")
    links = {fd.name: str(fd.readlink()) for fd in Path(f"/proc/{process.pid}/fd").iterdir()}
    assert links == {"0": "/dev/null", "1": robot.log, "2": robot.log}


def test_its_output_and_errors_go_to_the_log_which_begins_empty(robot: Robot) -> None:
    Path(robot.log).parent.mkdir()
    Path(robot.log).write_text("of an earlier run\n")
    robot.start("echo out; echo err >&2; echo >done")
    robot.await_file("done")
    assert Path(robot.log).read_text() == "out\nerr\n"


def test_a_secret_in_its_environment_is_in_no_argument_list(robot: Robot) -> None:
    secret = hashlib.sha256(os.urandom(8)).hexdigest()
    # The program looks around at the very moment it starts, and once more when all has settled.
    look = 'for each in /proc/[0-9]*/cmdline; do tr "\\0" " " <"$each"; echo; done 2>/dev/null'
    process = robot.start(f"{look} >cmdlines; printenv SECRET >mine; echo >done; exec sleep 60", SECRET=secret)
    robot.await_file("done")
    everything = [(robot.folder / "cmdlines").read_text()]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            everything.append(path.read_bytes().decode("utf-8", "replace"))
    assert (robot.folder / "mine").read_text() == f"{secret}\n"
    assert is_alive(robot.target, process)
    assert "cmdlines" in "".join(everything)
    assert not [each for each in everything if secret in each]


def test_it_is_recognised_as_dead_after_its_end(robot: Robot) -> None:
    process = robot.start("exec sleep 60")
    assert is_alive(robot.target, process)
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not is_alive(robot.target, process), "it is recognised as dead")
    assert find_detached(robot.target, robot.pid_file) is None


def test_a_program_that_does_not_exist_dies_with_its_reason_in_the_log(robot: Robot) -> None:
    process = robot.spawn(["/nowhere/device-manager"])
    until(lambda: not is_alive(robot.target, process), "it is dead")
    assert "not found" in Path(robot.log).read_text()


def test_another_process_with_the_pid_of_the_file_is_a_stranger(robot: Robot, tmp_path: Path) -> None:
    process = robot.start("exec sleep 60")
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        try:
            # The same boot, another start: 1 is long before anything of today.
            forged = Detached(stranger.pid, f"1-{process.identity.partition('-')[2]}")
            Path(robot.pid_file).write_text(f"{forged.pid} {forged.identity}\n")
            assert find_detached(robot.target, robot.pid_file) is None
            assert not is_alive(robot.target, forged)
            assert stop(robot.target, forged, grace=0.1) == "gone"
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_process_of_before_the_boot_is_a_stranger(robot: Robot) -> None:
    process = robot.start("exec sleep 60")
    started = process.identity.partition("-")[0]
    earlier = Detached(process.pid, f"{started}-00000000-0000-0000-0000-000000000000")
    assert not is_alive(robot.target, earlier)
    assert stop(robot.target, earlier, grace=0.1) == "gone"
    assert runs(process.pid)


@pytest.mark.parametrize("text", ["", "\n", "12", "12\n", "999999999 \n"])
def test_a_pid_file_that_is_cut_off_names_nobody(robot: Robot, text: str) -> None:
    Path(robot.pid_file).parent.mkdir()
    Path(robot.pid_file).write_text(text)
    assert find_detached(robot.target, robot.pid_file) is None


@pytest.mark.parametrize("text", ["", "12", "12 ", "twelve 34-5", "-12 34-5"])
def test_what_is_no_pid_file_is_said_to_be_none(text: str) -> None:
    with pytest.raises(TargetError, match="not a pid file of ours"):
        parse_pid_file(text)


def test_a_log_that_cannot_be_written_is_an_error_and_starts_nothing(robot: Robot) -> None:
    Path(robot.log).mkdir(parents=True)
    with pytest.raises(TargetError, match=r"sh could not be started: .*/a\.log cannot be written"):
        robot.start("exec sleep 60")
    assert not Path(robot.pid_file).exists()


def test_a_folder_that_cannot_be_made_is_an_error(target: Target, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    robot = Robot(target, tmp_path / "file")
    with pytest.raises(TargetError, match=r"sh could not be started: .*(Not a directory|File exists)"):
        robot.start("exec sleep 60")


def test_a_process_that_listens_is_stopped(robot: Robot) -> None:
    process = robot.start("trap 'echo bye >bye; exit' TERM; echo >done; while :; do sleep 0.01; done")
    robot.await_file("done")
    assert stop(robot.target, process, grace=10) == "stopped"
    assert (robot.folder / "bye").read_text() == "bye\n"
    assert not runs(process.pid)


def test_a_process_that_does_not_listen_is_killed(robot: Robot) -> None:
    process = robot.start("trap '' TERM; echo >done; while :; do sleep 0.01; done")
    robot.await_file("done")
    assert stop(robot.target, process, grace=0.1) == "killed"
    assert not runs(process.pid)


def test_stopping_twice_finds_it_gone(robot: Robot) -> None:
    process = robot.start("exec sleep 60")
    assert stop(robot.target, process) == "stopped"
    assert stop(robot.target, process) == "gone"


@pytest.mark.parametrize("leader", ["stopped", "killed", "gone"])
def test_the_members_of_its_group_die_with_it(robot: Robot, leader: str) -> None:
    trap = "trap '' TERM;" if leader == "killed" else ""
    member = "sh -c \"trap '' TERM; while :; do sleep 0.01; done\""
    process = robot.start(f"{member} & echo $! >member; {trap} echo >done; while :; do sleep 0.01; done")
    robot.await_file("done")
    pid = int((robot.folder / "member").read_text())
    if leader == "gone":
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: not runs(process.pid), "the leader is dead")
    assert stop(robot.target, process, grace=0.2) == leader
    until(lambda: not runs(pid), "the member is dead")


def test_the_members_die_even_while_nobody_has_reaped_the_leader(robot: Robot) -> None:
    # In a container the first process often reaps nobody: the dead leader stays a zombie. Here we are its parent.
    script = "sleep 60 & echo $! >member; echo >done; exec sleep 60"
    with subprocess.Popen(["sh", "-c", script], cwd=robot.folder, start_new_session=True) as leader:
        robot.await_file("done")
        member = int((robot.folder / "member").read_text())
        identity = robot.target.run(["sh", "-c", f"{processes.IDENTITY} identity {leader.pid}"]).text
        assert stop(robot.target, Detached(leader.pid, identity)) == "stopped"
        assert Path(f"/proc/{leader.pid}").exists()
        try:
            until(lambda: not runs(member), "the member is dead")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(leader.pid, signal.SIGKILL)


# --- looks ------------------------------------------------------------------------------------------------------------


def test_a_look_shows_life_state_and_log(robot: Robot) -> None:
    process = robot.start('echo one; printf \'{"phase": "up"}\\n\' >a.json; echo >done; exec sleep 60')
    robot.await_file("done")
    assert robot.look(process) == Look(alive=True, state='{"phase": "up"}', log=b"one\n")


def test_without_news_a_look_ends_with_its_patience(robot: Robot) -> None:
    process = robot.start("echo one; echo >done; exec sleep 60")
    robot.await_file("done")
    assert robot.look(process, offset=4, patience=0.05) == Look(alive=True, state="", log=b"")
    assert robot.look(process, patience=0.0) == Look(alive=True, state="", log=b"one\n")


def test_a_new_state_ends_the_look(robot: Robot) -> None:
    process = robot.start(
        "echo old >a.json; echo >done; read -r _ <go; echo new >a.tmp; mv a.tmp a.json; exec sleep 60"
    )
    robot.await_file("done")
    robot.tell()
    assert robot.look(process, known="old", patience=60).state == "new"


def test_a_new_line_in_the_log_ends_the_look(robot: Robot) -> None:
    process = robot.start("echo one; echo >done; read -r _ <go; echo two; exec sleep 60")
    robot.await_file("done")
    robot.tell()
    assert robot.look(process, offset=4, patience=60) == Look(alive=True, state="", log=b"two\n")


def test_the_end_of_the_process_ends_the_look_and_its_last_words_are_in_it(robot: Robot) -> None:
    process = robot.start("read -r _ <go; echo failed >a.json; echo 'last words'; exit 3")
    robot.tell()
    look = robot.look(process, patience=60)
    logged = look.log
    while look.alive:
        look = robot.look(process, known=look.state, offset=len(logged), patience=60)
        logged += look.log
    assert (look.state, logged) == ("failed", b"last words\n")


def test_a_long_log_comes_in_bounded_pieces_and_nothing_is_lost(robot: Robot) -> None:
    process = robot.start("seq 400000; echo >done; exec sleep 60")
    robot.await_file("done")
    expected, seen = Path(robot.log).read_bytes(), b""
    assert len(expected) > 5 * MOST_LOG
    while len(seen) < len(expected):
        look = robot.look(process, offset=len(seen))
        assert 0 < len(look.log) <= MOST_LOG
        seen += look.log
    assert seen == expected


def test_a_log_of_any_bytes_and_a_state_of_any_words_arrive_unchanged(robot: Robot) -> None:
    process = robot.start("exec sleep 60")
    text = '  it\'s "{}" \\n $HOME \u2603 '
    Path(robot.state).write_text(f"{text}\nsecond line\n")
    Path(robot.log).write_bytes(bytes(range(256)))
    assert robot.look(process) == Look(alive=True, state=text, log=bytes(range(256)))
    assert robot.look(process, known=text, offset=256, patience=0).log == b""


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_there_and_back_with_its_mode(target: Target, tmp_path: Path) -> None:
    path, content = str(tmp_path / "new folder" / "it's a file"), bytes(range(256)) * 1000
    put(target, content, path, mode=0o750)
    assert get(target, path) == content
    assert Path(path).stat().st_mode & 0o7777 == 0o750
    assert [each.name for each in (tmp_path / "new folder").iterdir()] == ["it's a file"]


def test_whoever_reads_a_file_while_it_is_replaced_reads_the_old_one(target: Target, tmp_path: Path) -> None:
    path = tmp_path / "file"
    put(target, b"before", str(path))
    with path.open("rb") as reader:
        put(target, b"after", str(path))
        assert reader.read() == b"before"
    assert path.read_bytes() == b"after"


class CutOff:
    """A target whose link breaks in the middle of what is sent."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0) -> Completed:
        """Run a command that gets half of its input."""
        return self._target.run(argv, stdin=stdin[: len(stdin) // 2], timeout=timeout)


def test_a_file_that_did_not_arrive_as_a_whole_replaces_nothing(target: Target, tmp_path: Path) -> None:
    path = tmp_path / "file"
    put(target, b"before", str(path))
    with pytest.raises(TargetError, match="file could not be written"):
        put(CutOff(target), b"after this", str(path))
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_file_that_cannot_be_written_is_said_in_the_targets_words(target: Target, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TargetError, match=r"file/x could not be written: .*(Not a directory|File exists)"):
        put(target, b"", str(tmp_path / "file" / "x"))


def test_a_file_that_is_not_there_is_none(target: Target, tmp_path: Path) -> None:
    assert get(target, str(tmp_path / "nothing")) is None


def test_the_kinds_of_files_are_told_apart(target: Target, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch(mode=0o644)
    assert exists(target, str(file))
    assert [exists(target, str(file), kind=kind) for kind in "fdx"] == [True, False, False]
    assert exists(target, str(tmp_path), kind="d")
    assert not exists(target, str(tmp_path / "nothing"))


class Trees:
    """A folder here and its copy on the target."""

    def __init__(self, target: Target, folder: Path) -> None:
        self._target = target
        self.here, self.there = folder / "here", folder / "the copy's folder"
        self.here.mkdir()

    def write(self, name: str, content: str = "content") -> Path:
        path = self.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def sync(self) -> Synced:
        return sync_tree(self._target, self.here, str(self.there))

    def copied(self) -> dict[str, str]:
        """Return the files of the copy with their contents."""
        files = [path for path in self.there.rglob("*") if not path.is_dir()]
        return {path.relative_to(self.there).as_posix(): path.read_text() for path in files}


@pytest.fixture
def trees(target: Target, tmp_path: Path) -> Trees:
    return Trees(target, tmp_path)


def test_only_what_differs_travels(trees: Trees) -> None:
    for name in ("a", "b/c", "b/d/e"):
        trees.write(name)
    assert trees.sync() == Synced(sent=3, removed=0, unchanged=0)
    assert trees.copied() == {"a": "content", "b/c": "content", "b/d/e": "content"}
    before = (trees.there / "a").stat().st_ino
    trees.write("b/c", "changed")
    assert trees.sync() == Synced(sent=1, removed=0, unchanged=2)
    assert trees.copied()["b/c"] == "changed"
    assert (trees.there / "a").stat().st_ino == before
    assert trees.sync() == Synced(sent=0, removed=0, unchanged=3)


def test_what_is_gone_here_is_removed_there(trees: Trees) -> None:
    trees.write("keep")
    removed = [trees.write(name) for name in ("old", "folder/old", "folder/deeper/old")]
    trees.sync()
    for path in removed:
        path.unlink()
    assert trees.sync() == Synced(sent=0, removed=3, unchanged=1)
    assert trees.copied() == {"keep": "content"}
    assert [path.name for path in trees.there.iterdir()] == ["keep"]


def test_a_file_takes_the_place_of_a_folder_and_the_other_way_round(trees: Trees) -> None:
    trees.write("one/file")
    trees.write("two")
    trees.sync()
    (trees.here / "one" / "file").unlink()
    (trees.here / "one").rmdir()
    (trees.here / "two").unlink()
    trees.write("one")
    trees.write("two/file")
    trees.sync()
    assert trees.copied() == {"one": "content", "two/file": "content"}


@pytest.mark.parametrize(
    "name",
    [
        "two words",
        "it's",
        '"',
        "-rf",
        "--",
        "new\nline",
        "back\\slash",
        "a\\nb",
        " lead",
        "trail ",
        "*",
        "\u2603",
        "car\rriage",
    ],
)
def test_a_file_may_be_called_anything(trees: Trees, name: str) -> None:
    path = trees.write(name)
    trees.write(f"folder {name}/{name}", "deeper")
    assert trees.sync() == Synced(sent=2, removed=0, unchanged=0)
    assert trees.copied() == {name: "content", f"folder {name}/{name}": "deeper"}
    assert trees.sync() == Synced(sent=0, removed=0, unchanged=2)
    path.unlink()
    assert trees.sync() == Synced(sent=0, removed=1, unchanged=1)
    assert trees.copied() == {f"folder {name}/{name}": "deeper"}


def test_a_name_that_is_longer_than_an_old_archive_can_hold_arrives(trees: Trees) -> None:
    name = "/".join(["a folder with a long name \u00fc"] * 6) + "/" + "x" * 150
    trees.write(name)
    trees.sync()
    assert trees.copied() == {name: "content"}


def test_links_are_followed(trees: Trees, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deeper").mkdir(parents=True)
    (elsewhere / "deeper" / "file").write_text("shared")
    (trees.here / "file").symlink_to(elsewhere / "deeper" / "file")
    (trees.here / "folder").symlink_to(elsewhere)
    (trees.here / "dangling").symlink_to("nowhere")
    assert trees.sync().sent == 2
    assert trees.copied() == {"file": "shared", "folder/deeper/file": "shared"}
    assert not any(path.is_symlink() for path in trees.there.rglob("*"))
    assert trees.sync() == Synced(sent=0, removed=0, unchanged=2)


def test_a_link_to_a_folder_around_it_is_not_followed_for_ever(trees: Trees) -> None:
    trees.write("folder/file")
    (trees.here / "folder" / "loop").symlink_to(trees.here)
    trees.sync()
    assert trees.copied() == {"folder/file": "content"}


def test_bytecode_neither_travels_nor_is_removed(trees: Trees) -> None:
    trees.write("module.py")
    trees.write("__pycache__/module.pyc", "ours")
    trees.write("deeper/__pycache__/module.pyc", "ours")
    (trees.there / "__pycache__").mkdir(parents=True)
    (trees.there / "__pycache__" / "module.pyc").write_text("theirs")
    assert trees.sync() == Synced(sent=1, removed=0, unchanged=0)
    assert trees.copied() == {"module.py": "content", "__pycache__/module.pyc": "theirs"}


def test_a_program_stays_executable(trees: Trees) -> None:
    program = trees.write("program")
    program.chmod(0o755)
    trees.sync()
    assert (trees.there / "program").stat().st_mode & 0o777 == 0o755


def test_a_file_that_has_become_a_program_travels_again(trees: Trees) -> None:
    trees.write("run.sh")
    trees.sync()
    (trees.here / "run.sh").chmod(0o755)
    assert trees.sync() == Synced(sent=1, removed=0, unchanged=0)
    assert os.access(trees.there / "run.sh", os.X_OK)
    assert trees.sync() == Synced(sent=0, removed=0, unchanged=1)


def test_nothing_of_the_transfer_is_left_behind(trees: Trees) -> None:
    trees.write("a/b")
    trees.sync()
    assert [path.name for path in trees.there.iterdir()] == ["a"]


def test_a_copy_that_cannot_be_written_is_said_in_the_targets_words(trees: Trees) -> None:
    trees.write("a")
    trees.there.touch()
    with pytest.raises(TargetError, match=r"the copy's folder could not be (written|compared): "):
        trees.sync()


# --- several commands at once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_each_of_several_commands_is_answered_in_its_place(target: Target, count: int) -> None:
    commands = [["sh", "-c", f"echo out {n}; echo err {n} >&2; exit {n}"] for n in range(count)]
    expected = [Completed(n, f"out {n}\n".encode(), f"err {n}\n".encode()) for n in range(count)]
    assert run_all(target, commands) == expected


@pytest.mark.parametrize("word", AWKWARD_WORDS)
def test_the_words_of_several_commands_arrive_as_they_are(target: Target, word: str) -> None:
    first, second = run_all(target, [["printf", "%s|", word], ["printf", "%s", f"{word}2"]])
    assert (first.stdout, second.stdout) == (f"{word}|".encode(), f"{word}2".encode())


def test_several_commands_run_side_by_side(target: Target, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    fifo = shlex.quote(str(tmp_path / "fifo"))
    # Each can only end when the other one runs at the same time.
    reader, writer = run_all(target, [["sh", "-c", f"cat {fifo}"], ["sh", "-c", f"echo met >{fifo}"]], timeout=10)
    assert (reader.text, writer.exit_code) == ("met", 0)


def test_a_command_among_several_that_is_not_there_harms_no_other(target: Target) -> None:
    missing, fine = run_all(target, [["/nowhere/program"], ["printf", "a\\nb\\0c"]])
    assert missing.exit_code == 127
    assert fine == Completed(0, b"a\nb\0c", b"")


def test_several_commands_that_take_too_long_are_ended_together(target: Target, tmp_path: Path) -> None:
    wait = f"echo $$ >>{shlex.quote(str(tmp_path / 'pids'))}; exec sleep 60"
    with pytest.raises(TargetError):
        run_all(target, [["sh", "-c", wait], ["sh", "-c", wait]], timeout=1)
    pids = [int(line) for line in (tmp_path / "pids").read_text().splitlines()]
    assert len(pids) == 2
    until(lambda: not any(runs(pid) for pid in pids), "both are gone")
