"""tests.jsonl: what the plugin writes down of each test, as pytest's own JUnit file has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from roboticks_tasks import state
from roboticks_tasks.events import CaseFinished, CaseStarted, read_events
from roboticks_tasks.profiles import load_profile

KINDS = """
import json, os, pytest

@pytest.fixture
def broken(): raise ValueError("first line" + chr(10) + "second line")

@pytest.fixture
def breaks_after():
    yield
    raise OSError("afterwards")

def test_passes(): pass
def test_fails(): assert 1 == 2
def test_errs(broken): pass
def test_errs_after(breaks_after): pass
def test_fails_and_errs_after(breaks_after): assert 3 == 4
def test_skips(): pytest.skip("because")
@pytest.mark.xfail(reason="known")
def test_xfails(): assert 0
@pytest.mark.xfail(reason="known")
def test_xpasses(): pass
@pytest.mark.xfail(reason="known", strict=True)
def test_xpasses_strictly(): pass
def test_no_fixture(nothing): pass
def test_in_a_library(): json.loads("{")
class TestClass:
    @pytest.mark.parametrize("x", ["a/b::c", "u\\x01\\u00fc"])
    def test_named(self, x): pytest.fail("nope", pytrace=False)
def test_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert 0
def test_secret(): assert not os.environ["ROBOTICKS_API_KEY"]
"""

WRONG = {
    "test_fails": ("failed", "assert 1 == 2", "def test_fails()"),
    "test_errs": ("error", "ValueError: first line", "def broken()"),
    "test_errs_after": ("error", "OSError: afterwards", 'raise OSError("afterwards")'),
    "test_fails_and_errs_after": ("failed", "assert 3 == 4", "def test_fails_and_errs_after"),
    "test_skips": ("skipped", "because", "def test_skips()"),
    "test_xfails": ("skipped", "known", "def test_xfails()"),
    "test_xpasses_strictly": ("failed", "[XPASS(strict)] known", "reason="),
    "test_no_fixture": ("error", "fixture 'nothing' not found", "def test_no_fixture"),
    "test_in_a_library": ("failed", "json.decoder.JSONDecodeError: Expecting property", 'json.loads("{")'),
    "test_elsewhere": ("failed", "assert 0", "    assert 0"),
}
"""Outcome, beginning of the message, and what stands in the line that is named."""


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, as far as it has a state."""
    folder = tmp_path_factory.mktemp("run")
    state.create(folder, load_profile("sim", environ={}))
    return folder


def run(folder: Path, text: str, run_folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on a module in `folder` as the tests of the run in `run_folder`."""
    (folder / "test_it.py").write_text(text)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "ROBOTICKS_R"))}
    environment = {**inherited, "ROBOTICKS_RUN": str(run_folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **variables}
    command = [sys.executable, "-m", "pytest", "-p", "roboticks_tasks.pytest_plugin", "-p", "no:cacheprovider", "-q"]
    return subprocess.run(
        [*command, "--junitxml=junit.xml", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def finished(run_folder: Path) -> list[CaseFinished]:
    """The ends of attempts, in order."""
    return [event for event in read_events(run_folder / "tests.jsonl") if isinstance(event, CaseFinished)]


@pytest.fixture(scope="module", params=[(), ("-p", "xdist", "-n1")], ids=["alone", "xdist"])
def kinds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A session with tests of every kind: its folder and its run's."""
    folder, own_run = tmp_path_factory.mktemp("kinds"), tmp_path_factory.mktemp("run")
    state.create(own_run, load_profile("sim", environ={}))
    done = run(folder, KINDS, own_run, *request.param, ROBOTICKS_API_KEY="hunter2-hunter2")
    assert done.returncode == 1, done.stdout + done.stderr
    return folder, own_run


def test_each_test_has_the_name_and_outcome_that_the_junit_file_has(kinds: tuple[Path, Path]) -> None:
    folder, own_run = kinds
    ours = {(each.classname, each.name): each.outcome for each in finished(own_run)}
    words = {"failure": "failed", "error": "error", "skipped": "skipped"}
    theirs: dict[tuple[str | None, str | None], str] = {}
    for case in ElementTree.parse(folder / "junit.xml").getroot().iter("testcase"):
        outcome = next((words[child.tag] for child in case if child.tag in words), "passed")
        theirs.setdefault((case.get("classname"), case.get("name")), outcome)
    assert {key: value for key, value in theirs.items() if key[1] != "test_secret"} == {
        key: value for key, value in ours.items() if key[1] != "test_secret"
    }
    assert len(finished(own_run)) == len(ours) == 15


@pytest.mark.parametrize("name", WRONG)
def test_a_failure_is_told_with_its_first_line_and_its_place_in_the_project(
    kinds: tuple[Path, Path], name: str
) -> None:
    folder, own_run = kinds
    [event] = [each for each in finished(own_run) if each.name == name]
    outcome, message, code = WRONG[name]
    assert event.outcome == outcome
    assert event.message is not None
    assert event.message.startswith(message)
    assert event.file == "test_it.py"
    assert event.line is not None
    assert code in (folder / event.file).read_text().splitlines()[event.line - 1]


def test_a_test_begins_before_it_ends_and_lasts_as_long_as_its_phases(kinds: tuple[Path, Path]) -> None:
    events = read_events(kinds[1] / "tests.jsonl")
    begun = {event.nodeid: index for index, event in enumerate(events) if isinstance(event, CaseStarted)}
    for index, event in enumerate(events):
        if isinstance(event, CaseFinished):
            assert begun[event.nodeid] < index
            assert event.begin + event.duration <= event.at + 0.01


def test_no_secret_is_written(kinds: tuple[Path, Path]) -> None:
    text = (kinds[1] / "tests.jsonl").read_text()
    assert "hunter2" not in text
    assert "***" in text


def test_each_repetition_is_an_event_of_its_own(tmp_path: Path, run_folder: Path) -> None:
    text = "N = []\ndef test_flaky():\n    N.append(1)\n    assert len(N) == 3\n"
    done = run(tmp_path, text, run_folder, "-p", "pytest_rerunfailures", "--reruns=5")
    assert done.returncode == 0, done.stdout
    assert [event.outcome for event in finished(run_folder)[-3:]] == ["rerun", "rerun", "passed"]


def test_a_time_limit_is_the_message(tmp_path: Path, run_folder: Path) -> None:
    text = "import time\ndef test_slow(): time.sleep(60)\n"
    run(tmp_path, text, run_folder, "-p", "pytest_timeout", "--timeout=0.2")
    assert "Timeout" in str(finished(run_folder)[-1].message)


def test_the_test_that_a_worker_dies_of_is_an_error(tmp_path: Path, run_folder: Path) -> None:
    run(tmp_path, "import os\ndef test_dies(): os._exit(1)\n", run_folder, "-p", "xdist", "-n1")
    event = finished(run_folder)[-1]
    assert (event.outcome, event.worker) == ("error", "gw0")
    assert "crashed while running" in str(event.message)


def test_files_below_the_runs_folder_are_attachments_and_no_others(tmp_path: Path, run_folder: Path) -> None:
    inside, outside = run_folder / "attachments" / "a" / "log.txt", tmp_path / "secret.txt"
    inside.parent.mkdir(parents=True, exist_ok=True)
    inside.write_text("four")
    outside.write_text("five!")
    (inside.parent / "link").symlink_to(outside)
    text = f"""
def test_attaches(record_property):
    for name in ({str(inside)!r}, {str(inside)!r}, {str(outside)!r}, {str(inside.parent / "link")!r}, "", "gone"):
        record_property("roboticks.attach.logs", name)
"""
    run(tmp_path, text, run_folder)
    [attachment] = finished(run_folder)[-1].attachments
    assert (attachment.name, attachment.path, attachment.size) == ("log.txt", "attachments/a/log.txt", 4)
    assert attachment.media_type == "text/plain"


def test_a_folder_that_vanishes_fails_no_test(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    text = f"import shutil\ndef test_a(): shutil.rmtree({str(gone)!r})\ndef test_b(): pass\n"
    done = run(tmp_path, text, gone, "-W", "error")
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_a_pytest_that_a_test_starts_is_not_written_down(tmp_path: Path, run_folder: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "test_inner.py").write_text("def test_inner(): pass\n")
    text = f"""
import subprocess, sys
def test_outer():
    words = ["-m", "pytest", "-q", "-p", "roboticks_tasks.pytest_plugin", "-p", "no:cacheprovider"]
    assert subprocess.run([sys.executable, *words], cwd={str(inner)!r}).returncode == 0
"""
    assert run(tmp_path, text, run_folder, "test_it.py").returncode == 0
    assert "test_inner" not in (run_folder / "tests.jsonl").read_text()


def schema_versions(folder: Path) -> list[str | None]:
    """The values of the property in the JUnit file."""
    root = ElementTree.parse(folder / "junit.xml").getroot()
    return [each.get("value") for each in root.iter("property") if each.get("name") == "roboticks_schema_version"]


@pytest.mark.parametrize("words", [(), ("-p", "xdist", "-n1")], ids=["alone", "xdist"])
def test_the_sdks_properties_pass_through_and_get_the_version_that_it_forgets_once(
    tmp_path: Path, run_folder: Path, words: tuple[str, ...]
) -> None:
    text = "import roboticks\n@roboticks.confirms('REQ-1')\ndef test_confirms(): pass\ndef test_other(): pass\n"
    run(tmp_path, text, run_folder, "-p", "roboticks.pytest_plugin", *words)
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    named = [(each.get("name"), each.get("value")) for each in root.iter("property")]
    assert ("roboticks.confirms", "REQ-1") in named
    assert ("roboticks.nodeid", "test_it.py::test_confirms") in named
    assert schema_versions(tmp_path) == ["2"]


def test_a_version_that_is_there_is_left_alone(tmp_path: Path, run_folder: Path) -> None:
    text = "def test_a(record_testsuite_property): record_testsuite_property('roboticks_schema_version', '1')\n"
    run(tmp_path, text, run_folder, "-p", "roboticks.pytest_plugin")
    assert schema_versions(tmp_path) == ["1"]


def test_without_the_sdk_there_is_no_version(tmp_path: Path, run_folder: Path) -> None:
    run(tmp_path, "def test_a(): pass\n", run_folder)
    assert schema_versions(tmp_path) == []


def test_the_header_names_the_run(tmp_path: Path, run_folder: Path) -> None:
    done = run(tmp_path, "def test_a(): pass\n", run_folder, "-v")
    assert f"roboticks: run {state.load(run_folder).run_id}, profile sim, board sim" in done.stdout


def test_one_worker_runs_all_tests_that_use_the_board(tmp_path: Path, run_folder: Path) -> None:
    text = """
import pytest, time
@pytest.mark.parametrize("n", range(4))
def test_hil(roboticks_run, n): time.sleep(0.05)
@pytest.mark.parametrize("n", range(4))
def test_other(n): time.sleep(0.05)
"""
    done = run(tmp_path, text, run_folder, "-p", "xdist", "-n2")
    assert done.returncode == 0, done.stdout
    workers = {each.worker for each in finished(run_folder)[-8:] if "test_hil" in each.name}
    assert len(workers) == 1


def test_without_a_run_and_a_profile_nothing_is_registered(tmp_path: Path) -> None:
    text = """
def test_a(pytestconfig):
    names = {name for name, plugin in pytestconfig.pluginmanager.list_name_plugin() if plugin is not None}
    ours = {name for name in names if name.startswith("roboticks_") and "." not in name}
    assert ours == {"roboticks_stop"}, ours
"""
    (tmp_path / "test_it.py").write_text(text)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "ROBOTICKS_R"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "roboticks_tasks.pytest_plugin", "-p", "no:cacheprovider"]
    environment = {**inherited, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_plugin_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "def test_a(pytestconfig): assert not hasattr(pytestconfig.option, 'roboticks_profile')\n"
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "ROBOTICKS_R"))}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:roboticks_tasks",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:anyio",
    ]
    done = subprocess.run(command, cwd=tmp_path, env=inherited, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
