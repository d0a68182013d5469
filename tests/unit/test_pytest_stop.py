"""What a signal does to pytest with our plugin: breaks off tests, never what pytest does for them afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.conditions import until

PRELUDE = """
import os, signal, time
from pathlib import Path
import pytest

def send(name):
    os.kill(os.getpid(), getattr(signal, name))
"""


def run(folder: Path, text: str, *words: str, ahead: str = "") -> subprocess.CompletedProcess[str]:
    """Run pytest on a module in `folder`; `ahead` are statements for the process before it."""
    (folder / "test_it.py").write_text(PRELUDE + text)
    program = f"{ahead}\nimport pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "-p", "roboticks_tasks.pytest_plugin", "-p", "no:cacheprovider"]
    # What pytest-xdist says of the suite's own worker is not true of the pytest that is started here.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    environment = {**inherited, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [*command, "--junitxml=junit.xml", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def outcomes(folder: Path) -> dict[str | None, str]:
    """Each test of the JUnit file, and how it ended."""
    cases = ElementTree.parse(folder / "junit.xml").getroot().iter("testcase")
    return {case.get("name"): next((child.tag for child in case), "passed") for case in cases}


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 2), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_the_running_test_is_broken_off_and_every_fixture_torn_down(tmp_path: Path, name: str, code: int) -> None:
    done = run(
        tmp_path,
        f"""
@pytest.fixture(scope="session")
def robot():
    yield
    for each in ("SIGINT", "SIGTERM", "SIGHUP"):
        send(each)
    Path("torn-down").touch()

@pytest.fixture
def part(robot):
    yield
    Path("part-torn-down").touch()

def test_before(): pass
def test_broken_off(part):
    try:
        send("{name}")
        Path("went-on").touch()
    except Exception:
        Path("swallowed").touch()
def test_after(): pass
""",
    )
    assert done.returncode == code, done.stdout
    assert {path.name for path in tmp_path.glob("*torn-down")} == {"torn-down", "part-torn-down"}
    assert not any((tmp_path / name).exists() for name in ("went-on", "swallowed"))
    assert outcomes(tmp_path) == {"test_before": "passed", "test_broken_off": "skipped"}
    assert f"stopped by {name}" in (tmp_path / "junit.xml").read_text()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_during_a_teardown_lets_it_finish_and_stops_before_the_next_test(tmp_path: Path, name: str) -> None:
    done = run(
        tmp_path,
        f"""
@pytest.fixture
def robot():
    yield
    send("{name}")
    Path("torn-down").touch()

def test_passes(robot): pass
def test_after(): pass
""",
    )
    assert done.returncode == {"SIGINT": 2, "SIGTERM": 143}[name], done.stdout
    assert (tmp_path / "torn-down").exists()
    assert outcomes(tmp_path) == {"test_passes": "passed"}


def test_a_fixture_that_gets_another_parameter_is_torn_down_to_the_end(tmp_path: Path) -> None:
    """It is torn down in the set-up of the next test, which a signal may break off, but not before."""
    done = run(
        tmp_path,
        """
@pytest.fixture(scope="session", params=["one", "two"])
def board(request):
    Path(f"up-{request.param}").touch()
    yield request.param
    send("SIGTERM")
    Path(f"down-{request.param}").touch()

def test_passes(board): pass
""",
    )
    assert done.returncode == 143, done.stdout
    assert {path.name for path in tmp_path.glob("*-*")} == {"up-one", "down-one"}
    assert outcomes(tmp_path) == {"test_passes[one]": "passed", "test_passes[two]": "skipped"}


def test_a_signal_while_the_tests_are_collected_ends_it_at_once(tmp_path: Path) -> None:
    done = run(tmp_path, "send('SIGTERM'); Path('went-on').touch()\ndef test_passes(): pass")
    assert done.returncode == 143, done.stdout
    assert not (tmp_path / "went-on").exists()
    assert outcomes(tmp_path) == {}


def test_a_test_that_sends_itself_a_sigint_and_expects_it_is_left_alone(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
@pytest.mark.parametrize("number", range(2))
def test_expects_it(number):
    with pytest.raises(KeyboardInterrupt):
        send("SIGINT")
""",
    )
    assert done.returncode == 0, done.stdout
    assert set(outcomes(tmp_path).values()) == {"passed"}


def test_a_second_sigint_does_not_break_what_a_test_does_because_of_the_first(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
def test_cleans_up():
    try:
        send("SIGINT")
    finally:
        send("SIGINT")
        send("SIGTERM")
        Path("clean").touch()
""",
    )
    assert done.returncode == 2, done.stdout
    assert (tmp_path / "clean").exists()
    assert "stopped by SIGINT" in (tmp_path / "junit.xml").read_text()


def test_a_child_that_a_test_forks_dies_of_a_signal_as_ever(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
def test_forks():
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(1)
    os.kill(pid, signal.SIGTERM)
    assert os.waitpid(pid, 0)[1] == signal.SIGTERM
""",
    )
    assert done.returncode == 0, done.stdout


def test_whoever_has_a_handler_of_his_own_keeps_it(tmp_path: Path) -> None:
    ahead = (
        "import signal; signal.signal(signal.SIGTERM, lambda *_: None); signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    )
    done = run(tmp_path, "def test_sends():\n    send('SIGTERM'); send('SIGHUP')", ahead=ahead)
    assert done.returncode == 0, done.stdout


def test_the_handlers_of_before_are_back_after_a_session_without_a_signal(tmp_path: Path) -> None:
    ahead = "import atexit, os, signal; atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))"
    assert run(tmp_path, "def test_passes(): pass", ahead=ahead).returncode == -signal.SIGTERM


def test_after_a_signal_no_other_one_changes_the_exit_code(tmp_path: Path) -> None:
    """What is ignored stays so to the very end; a handler in Python would be taken back before."""
    ahead = """
import atexit, os, signal
atexit.register(lambda: signal.getsignal(signal.SIGHUP) == signal.SIG_IGN or os._exit(9))
"""
    assert run(tmp_path, "def test_is_stopped():\n    send('SIGTERM')", ahead=ahead).returncode == 143


def test_a_worker_that_was_still_starting_is_stopped_too(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import os, signal\nif 'PYTEST_XDIST_WORKER' in os.environ:\n    os.kill(os.getppid(), signal.SIGTERM)\n"
    )
    done = run(tmp_path, "def test_waits():\n    Path('began').touch(); time.sleep(60)", "-p", "xdist", "-n1")
    assert done.returncode == 143, done.stdout
    until(lambda: str(tmp_path) not in running(), "nothing is left")


def running() -> str:
    """The working directories of this user's processes."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            found.append(str(entry.readlink()))
        except OSError:
            continue
    return "\n".join(found)


def test_a_worker_ends_with_its_controller_however_that_goes(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
@pytest.fixture
def robot(request):
    yield
    Path("torn-down").write_text(str(request.session.shouldstop))

def test_waits(robot):
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
""",
        *("-p", "xdist", "-n1"),
    )
    assert done.returncode == -signal.SIGKILL
    until(lambda: str(tmp_path) not in running(), "nothing is left")
    # Without us xdist sends itself a SIGINT, five seconds later.
    assert (tmp_path / "torn-down").read_text() == "stopped by SIGTERM"
