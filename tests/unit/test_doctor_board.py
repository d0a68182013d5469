"""What doctor makes of what a board says of itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from roboticks_tasks.doctor import questions
from roboticks_tasks.doctor.board import JUDGEMENTS, SHELL, Known
from roboticks_tasks.doctor.checks import Check, run_check
from roboticks_tasks.doctor.facts import PROGRAMS, Facts, gather
from roboticks_tasks.doctor.findings import Finding, ok
from roboticks_tasks.doctor.sizes import Source, inspect
from roboticks_tasks.errors import BinaryError, TargetError
from roboticks_tasks.lifecycle.support.places import places
from roboticks_tasks.profiles import Profile
from roboticks_tasks.profiles.values import Board, DeploymentSpec, DeviceManagerSpec
from roboticks_tasks.profiles.values import Source as SourceSpec
from roboticks_tasks.profiles.values import Target as TargetSpec
from roboticks_tasks.targets.detached import spawn_detached
from roboticks_tasks.targets.detached import stop as stop_detached
from roboticks_tasks.targets.local import LocalTarget
from roboticks_tasks.targets.protocol import Completed

HEALTHY = {
    "machine": "aarch64",
    "user": "robot",
    "missing": "",
    "head": "ab",
    "folder": "/opt/roboticks",
    "writable": "yes",
    "disk": "9000000",
    "memory": "900000",
    "binary": "yes",
    "executable": "yes",
    "header": (b"\x7fELF\x02\x01" + bytes(12) + b"\xb7\x00").hex(),
    "deployment": "yes",
    "registered": "yes",
    "end": "yes",
}


class Said:
    """A board that answers every script with chosen text."""

    def __init__(self, text: str, *, exit_code: int = 0, stderr: str = "") -> None:
        self.answer = Completed(exit_code, text.encode(), stderr.encode())

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Answer."""
        return self.answer


class Somebody(LocalTarget):
    """This machine, as a user who may not write everywhere."""

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command, as nobody where the tests are root's."""
        words = ["setpriv", "--reuid=65534", "--clear-groups", *argv] if os.getuid() == 0 else argv
        return super().run(words, stdin=stdin, timeout=timeout, repeatable=repeatable)


def says(changes: Mapping[str, str | None] | None = None, *, skew: float = 0.0) -> Facts:
    """Return what doctor reads in the answer of a healthy board with `changes`; None leaves a line out."""
    told = {"time": f"{time.time() + skew:.6f}", **HEALTHY, **(changes or {})}
    lines = "".join(f"{name}={value}\n" for name, value in told.items() if value is not None)
    return gather(Profile(), Said(lines), timeout=1)


def judge(name: str, facts: Facts, profile: Profile | None = None, **known: object) -> Finding:
    """Return the finding `name` on a board that said this."""
    values = {"profile": profile or Profile(name="bench"), "facts": facts, "source": Source(), **known}
    check: Check[Known] = Check("connection", "board", lambda: (ok(""), Known(**values)), {name: JUDGEMENTS[name]})  # type: ignore[arg-type]
    found = {each.name: each for each in run_check(check)}
    return found[name]


CASES: list[tuple[str, dict[str, str | None], str, str]] = [
    ("programs", {}, "ok", "all"),
    ("programs", {"missing": " setsid tar"}, "failed", "setsid, tar"),
    ("programs", {"head": ""}, "failed", "head -c"),
    ("root folder", {}, "ok", "/opt/roboticks can be written"),
    ("root folder", {"folder": "/opt"}, "ok", "/opt/roboticks can be made"),
    ("root folder", {"writable": None, "folder": "/opt"}, "failed", "/opt cannot be written by robot"),
    ("disk", {}, "ok", "9.2 GB free"),
    ("disk", {"disk": "400000"}, "warning", "410 MB free"),
    ("disk", {"disk": "40000"}, "failed", "41 MB free"),
    ("disk", {"disk": ""}, "warning", "says nothing"),
    ("memory", {}, "ok", "922 MB available"),
    ("memory", {"memory": "80000"}, "warning", "82 MB"),
    ("memory", {"memory": "9000"}, "failed", "9 MB"),
    ("memory", {"memory": None}, "warning", "MemAvailable"),
    ("architecture", {}, "ok", "aarch64 on aarch64"),
    ("architecture", {"machine": "x86_64"}, "failed", "is built for aarch64, the target is x86_64"),
    ("device manager", {}, "ok", "/opt/roboticks/install/bin/device-manager"),
    ("device manager", {"executable": None}, "failed", "cannot be executed"),
    ("device manager", {"executable": None, "binary": None}, "failed", "does not exist"),
    ("deployment", {}, "ok", "/opt/roboticks/deployment"),
    ("deployment", {"deployment": None}, "warning", "no composition will run"),
    ("registration", {}, "ok", "registration.json"),
    ("registration", {"registered": None}, "ok", "will register"),
    ("left device manager", {}, "ok", "no device manager is running"),
    ("left device manager", {"running": "4711"}, "warning", "pid 4711"),
    ("clock", {"time": "+%s"}, "warning", "says nothing"),
]


@pytest.mark.parametrize(("name", "changes", "outcome", "words"), CASES)
def test_a_judgement_follows_from_what_the_board_says(
    name: str, changes: dict[str, str | None], outcome: str, words: str
) -> None:
    found = judge(name, says(changes))
    assert (found.outcome, words in found.detail) == (outcome, True), found
    assert bool(found.remedy) == (outcome != "ok")


@pytest.mark.parametrize(
    ("skew", "outcome", "words"),
    [
        (0.0, "ok", "agrees"),
        (-30.0, "warning", "behind"),
        (30.0, "warning", "ahead"),
        (-86_400.0, "failed", "certificates"),
        (86_400.0, "failed", "certificates"),
    ],
)
def test_a_clock_that_is_off_is_seen_with_its_direction(skew: float, outcome: str, words: str) -> None:
    found = judge("clock", says(skew=skew))
    assert found.outcome == outcome
    assert words in found.detail


def test_the_time_that_an_answer_is_on_its_way_is_no_skew() -> None:
    facts = says()._replace(asked=(1000.0, 1010.0), clock=(1009.0, 1009.0))
    assert judge("clock", facts).outcome == "ok"


def test_a_clock_of_whole_seconds_may_be_a_second_further() -> None:
    facts = says({"time": "1000"})._replace(asked=(1001.9, 1001.95))
    assert judge("clock", facts).outcome == "ok"


def test_a_slow_login_shell_is_a_warning_with_its_cost() -> None:
    found = judge("shell start-up", says(), startup=0.097)
    assert found.outcome == "warning"
    assert "97 ms" in found.detail
    assert found.remedy
    assert judge("shell start-up", says(), startup=SHELL).outcome == "ok"


def test_what_is_to_be_brought_must_fit_on_the_disk() -> None:
    found = judge("disk", says(), source=Source(size=20_000_000_000))
    assert found.outcome == "failed"
    assert "20.0 GB are to be brought" in found.detail


def test_the_file_that_will_be_brought_is_judged_rather_than_the_one_that_is_there() -> None:
    x86 = b"\x7fELF\x02\x01" + bytes(12) + b"\x3e\x00"
    found = judge("architecture", says(), source=Source(path=Path("build/dm"), header=x86))
    assert found.outcome == "failed"
    assert "build/dm is built for x86_64, the target is aarch64" in found.detail


def test_a_device_manager_that_a_run_brings_is_not_missed() -> None:
    profile = Profile(device_manager=DeviceManagerSpec(source=SourceSpec(path="build/dm")))
    assert judge("device manager", says({"executable": None, "binary": None}), profile).outcome == "ok"


def test_a_device_that_cannot_register_is_the_profiles_fault() -> None:
    found = judge("registration", says({"registered": None}), has_secret=False)
    assert (found.outcome, found.area) == ("failed", "machine")
    assert "ROBOTICKS_PROJECT_SECRET" in found.remedy
    local = Profile(backend="local")
    assert judge("registration", says({"registered": None}), local, has_secret=False).outcome == "ok"


def test_a_device_manager_of_the_run_that_has_the_board_is_not_left_behind() -> None:
    assert judge("left device manager", says({"running": "4711"}), in_use="a run").outcome == "ok"


@pytest.mark.parametrize("board", [Said("", exit_code=127, stderr="sh: not found"), Said("login: "), Said("time=1\n")])
def test_a_board_that_does_not_understand_the_script_is_not_judged(board: Said) -> None:
    with pytest.raises(TargetError, match="simple script"):
        gather(Profile(), board, timeout=1)


def on_this_machine(root: Path, **spec: object) -> Profile:
    return Profile(target=TargetSpec(kind="local"), device_manager=DeviceManagerSpec(root=str(root), **spec))  # type: ignore[arg-type]


def test_this_machine_says_all_that_is_asked(tmp_path: Path) -> None:
    profile = on_this_machine(tmp_path / "not" / "there", registration_file=str(tmp_path / "registration.json"))
    facts = gather(profile, LocalTarget(), timeout=20)
    assert facts.machine == os.uname().machine
    assert facts.missing == ()
    assert facts.folder == str(tmp_path)
    assert facts.writable
    assert facts.disk is not None
    assert facts.disk > 0
    assert facts.memory is not None
    assert facts.memory > 0
    assert judge("clock", facts).outcome == "ok"
    assert (facts.has_binary, facts.executable, facts.has_deployment, facts.registered) == (False,) * 4
    assert facts.running is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["roboticks", "with a space", "qu'ote", "$(touch pwned)"])
def test_what_is_in_the_root_is_found_whatever_its_name(tmp_path: Path, name: str) -> None:
    profile = on_this_machine(tmp_path / name, registration_file=str(tmp_path / name / "registered"))
    where = places(profile)
    Path(where.binary).parent.mkdir(parents=True)
    Path(where.binary).write_bytes(Path(sys.executable).resolve().read_bytes()[:64])
    Path(where.deployment).mkdir()
    (tmp_path / name / "registered").touch()
    facts = gather(profile, LocalTarget(), timeout=20)
    assert (facts.has_binary, facts.executable, facts.has_deployment, facts.registered) == (True, False, True, True)
    Path(where.binary).chmod(0o755)
    facts = gather(profile, LocalTarget(), timeout=20)
    assert facts.executable
    assert facts.header[:4] == b"\x7fELF"
    assert facts.folder == where.root


def test_a_program_that_is_not_on_the_boards_path_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for program in ("sh", "date", "uname", "id", "head", "df", "tail"):
        where = subprocess.run(["sh", "-c", f"command -v {program}"], capture_output=True, text=True, check=True)
        (tools / program).symlink_to(where.stdout.strip())
    monkeypatch.setenv("PATH", str(tools))
    facts = gather(on_this_machine(tmp_path), LocalTarget(), timeout=20)
    assert set(facts.missing) == {*PROGRAMS.split(), "sha256sum"} - {"head", "tail"}


def test_a_folder_that_cannot_be_written_is_seen() -> None:
    profile = on_this_machine(Path("/etc/roboticks-nowhere/root"))
    found = judge("root folder", gather(profile, Somebody(), timeout=20), profile)
    assert found.detail.startswith("/etc cannot be written by ")
    assert (found.outcome, bool(found.remedy)) == ("failed", True)


def test_a_device_manager_that_runs_is_seen_until_it_ends(tmp_path: Path) -> None:
    profile, target = on_this_machine(tmp_path), LocalTarget()
    log, pid_file = str(tmp_path / "log"), places(profile).pid_file
    process = spawn_detached(target, ["sleep", "60"], environment={}, log=log, pid_file=pid_file)
    try:
        assert gather(profile, target, timeout=20).running == process.pid
    finally:
        stop_detached(target, process, grace=1)
    assert gather(profile, target, timeout=20).running is None


def test_what_is_to_be_brought_is_measured(tmp_path: Path) -> None:
    (tmp_path / "dm").write_bytes(b"\x7fELF" + bytes(96))
    (tmp_path / "deployment").mkdir()
    (tmp_path / "deployment" / "model").write_bytes(bytes(1000))
    profile = Profile(
        device_manager=DeviceManagerSpec(source=SourceSpec(path=str(tmp_path / "dm"))),
        deployment=DeploymentSpec(path=str(tmp_path / "deployment")),
    )
    source = inspect(profile)
    assert (source.size, source.header[:4]) == (1100, b"\x7fELF")
    (tmp_path / "dm").unlink()
    assert inspect(profile) == Source(size=1000)


def an_elf(tmp_path: Path) -> tuple[Path, bytes]:
    """Return a program that is linked with the C library of this machine, and its first bytes."""
    path = Path(sys.executable).resolve()
    copy = tmp_path / "device-manager"
    copy.write_bytes(path.read_bytes())
    return copy, copy.read_bytes()[:4096]


def test_a_program_for_a_newer_c_library_is_refused(tmp_path: Path) -> None:
    path, header = an_elf(tmp_path)
    with pytest.raises(BinaryError, match=r"needs glibc 2\.\d+, the target has 2\.1") as refused:
        questions.c_library(Profile(), Said("glibc 2.1\n"), header, path)
    assert refused.value.remedy


def test_a_program_whose_loader_is_missing_is_refused(tmp_path: Path) -> None:
    path, header = an_elf(tmp_path)
    with pytest.raises(BinaryError, match="needs the loader"):
        questions.c_library(Profile(), Said("", exit_code=3), header, path)


def test_a_script_needs_no_c_library() -> None:
    assert questions.c_library(Profile(), Said(""), b"#!/bin/sh\n", None) is None


def test_a_python_that_is_missing_is_refused(tmp_path: Path) -> None:
    profile = on_this_machine(tmp_path, kind="bindings", interpreter="/nowhere/python3")
    with pytest.raises(BinaryError, match="/nowhere/python3"):
        questions.python(profile, LocalTarget())


def test_a_python_without_the_bindings_is_refused(tmp_path: Path) -> None:
    profile = on_this_machine(tmp_path, kind="bindings", interpreter=sys.executable)
    with pytest.raises(BinaryError, match="roboticks_device"):
        questions.python(profile, LocalTarget())
    (tmp_path / "install" / "lib").mkdir(parents=True)
    (tmp_path / "install" / "lib" / "roboticks_device.py").touch()
    found = questions.python(profile, LocalTarget())
    assert found is not None
    assert found.outcome == "ok"


def test_bindings_that_a_run_brings_are_not_missed(tmp_path: Path) -> None:
    source = SourceSpec(path="build/roboticks_device.so")
    profile = on_this_machine(tmp_path, kind="bindings", interpreter=sys.executable, source=source)
    found = questions.python(profile, LocalTarget())
    assert found is not None
    assert found.outcome == "ok"
    spec = msgspec.structs.replace(profile.device_manager, interpreter="/nowhere/python3")
    missing = questions.python(msgspec.structs.replace(profile, device_manager=spec), LocalTarget())
    assert missing is not None
    assert (missing.outcome, bool(missing.remedy)) == ("failed", True)


def test_a_native_device_manager_needs_no_python() -> None:
    assert questions.python(Profile(), LocalTarget()) is None


def test_a_board_of_which_nothing_is_known_is_a_warning() -> None:
    profile = Profile(name="bench", target=TargetSpec(kind="ssh"), boards=(Board(id="a", host="a"),))
    found = questions.identity(profile, Said(""))
    assert found is not None
    assert found.outcome == "warning"
    assert "enroll --profile bench" in found.remedy
    assert questions.identity(Profile(), Said("")) is None
