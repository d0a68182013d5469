"""The markers, and what the plugin does to pytest itself: in pytests of their own, in a run that is only a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from roboticks_tasks.state import RunState

PROFILE = """
backend = "http://127.0.0.1:9"
[[boards]]
id = "board-1"
features = ["camera", "lidar"]
[[boards]]
id = "board-2"
[device_manager]
root = ".roboticks/{board}"
"""


class Pytest:
    """Runs pytest on one module, in a run on board-1 if there is one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        profiles = folder / "profiles"
        profiles.mkdir()
        (profiles / "lab.toml").write_text(PROFILE)
        self.run_folder = folder / "run"
        self.run_folder.mkdir()
        state = RunState(run_id="r", profile="lab", started_at="2026-01-01T00:00:00Z", board_id="board-1")
        (self.run_folder / "run.json").write_bytes(msgspec.json.encode(state))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
        self.variables = {
            **inherited,
            "ROBOTICKS_PROFILES": str(profiles),
            "ROBOTICKS_RUN": str(self.run_folder),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }

    def allow(self) -> None:
        """Have the profile allow destructive tests."""
        path = self.folder / "profiles" / "lab.toml"
        path.write_text(f"{path.read_text()}\n[tests]\ndestructive = true\n")

    def run(self, text: str, *words: str, program: str = "", plugins: Sequence[str] = ()) -> str:
        (self.folder / "test_it.py").write_text(f"import pytest, time, threading\n{text}")
        program = program or "import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
        loaded = [word for name in ("roboticks_tasks.pytest_plugin", *plugins) for word in ("-p", name)]
        command = [sys.executable, "-c", program, *loaded, "-p", "no:cacheprovider", "--strict-markers", "-rs", *words]
        done = subprocess.run(
            command, cwd=self.folder, env=self.variables, capture_output=True, text=True, timeout=60, check=False
        )
        assert "INTERNALERROR" not in done.stdout, done.stdout
        return done.stdout + done.stderr


@pytest.fixture
def own(tmp_path: Path) -> Pytest:
    return Pytest(tmp_path)


NEEDS = """
@pytest.mark.requires(feature="gpu")
def test_gpu(): pass
@pytest.mark.requires(feature="camera")
def test_camera(): pass
@pytest.mark.requires(feature=["camera", "gps", "gpu"])
class TestSeveral:
    def test_it(self): pass
    @pytest.mark.requires("lidar")
    def test_more(self): pass
@pytest.mark.requires()
def test_nothing(): pass
"""


def test_a_test_runs_on_a_board_that_has_what_it_requires_only(own: Pytest) -> None:
    said = own.run(NEEDS)
    assert "SKIPPED [1] test_it.py:3: board board-1 has no gpu; its features: camera, lidar" in said
    assert said.count("board board-1 has no gps and no gpu; its features: camera, lidar") == 2
    assert 'requires takes a feature of the board: requires(feature="gpu")' in said
    assert "1 passed, 3 skipped, 1 error" in said


def test_without_a_run_the_markers_are_left_to_others(own: Pytest) -> None:
    del own.variables["ROBOTICKS_RUN"]
    assert "5 passed" in own.run(NEEDS)


def test_a_run_whose_profile_is_gone_is_told_in_a_sentence(own: Pytest) -> None:
    (own.folder / "profiles" / "lab.toml").unlink()
    said = own.run('@pytest.mark.requires(feature="gpu")\ndef test_gpu(): pass\n')
    assert "unknown profile 'lab'" in said
    assert "Traceback" not in said


HARM = """
@pytest.mark.destructive
def test_harm(): pass
"""


@pytest.mark.parametrize("who", ["nobody", "option", "profile"])
def test_a_destructive_test_is_skipped_unless_somebody_allows_it(own: Pytest, who: str) -> None:
    if who == "profile":
        own.allow()
    said = own.run(HARM, *(["--destructive"] if who == "option" else []))
    reason = "destructive: neither --destructive nor `tests.destructive` of profile 'lab' allows it"
    assert (reason in said, "1 passed" in said) == ((True, False) if who == "nobody" else (False, True))


SLOW = """
@pytest.mark.hil_timeout(0.2)
def test_slow():
    threading.Event().wait(50)
@pytest.mark.hil_timeout(seconds=50)
def test_quick(): pass
@pytest.mark.hil_timeout("soon")
def test_wrong(): pass
@pytest.fixture
def slow():
    yield
    time.sleep(0.3)
@pytest.mark.hil_timeout(0.2)
def test_torn_down_slowly(slow): pass
"""


def test_a_test_that_takes_too_long_fails_and_the_next_one_runs(own: Pytest) -> None:
    said = own.run(SLOW)
    assert "the test took more than 0.2 s (hil_timeout)" in said
    assert "hil_timeout takes seconds, a number above 0, not 'soon'" in said
    assert "2 failed, 2 passed" in said


def test_pytest_timeout_does_it_where_it_is_installed(own: Pytest) -> None:
    said = own.run(SLOW, "-k", "slow and not torn", plugins=["pytest_timeout"])
    assert "Timeout (>0.2s) from pytest-timeout" in said
    assert "hil_timeout)" not in said.replace("hil_timeout(", "")


def test_the_runs_patience_is_that_of_the_limits(own: Pytest) -> None:
    own.variables["ROBOTICKS_TIMEOUT_MULTIPLIER"] = "0.01"
    said = own.run("@pytest.mark.hil_timeout(20)\ndef test_slow(): threading.Event().wait(50)\n")
    assert "the test took more than 0.2 s (hil_timeout)" in said


def test_the_markers_are_documented(own: Pytest) -> None:
    said = own.run("", "--markers")
    for name in ("requires(feature)", "hil_timeout(seconds)", "destructive"):
        assert f"@pytest.mark.{name}: " in said


def test_a_second_session_in_the_same_process_has_the_fixtures_too(own: Pytest) -> None:
    twice = "import pytest, sys; [pytest.main(sys.argv[1:]) for _ in range(2)]"
    names = ("bus", "device", "platform", "console", "power", "artifacts", "target")
    tests = "".join(f"def test_{name}({name}): pass\n" for name in names)
    said = own.run(tests, program=twice)
    assert "not found" not in said
    assert said.count("has no console in profile 'lab'") == said.count("has no power in profile 'lab'") == 2
