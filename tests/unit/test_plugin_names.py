"""Names that others have taken: their options and fixtures win, silently; and what a killed pytest has left goes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, cast

import pytest

from roboticks_tasks.backend import Client
from roboticks_tasks.errors import BackendError
from roboticks_tasks.pytest_plugin.membership import own_file
from roboticks_tasks.pytest_plugin.platform_client import Platform
from tests.contract.terminals import own_folder
from tests.unit.test_plugin_markers import Pytest


@pytest.fixture
def own(tmp_path: Path) -> Pytest:
    return Pytest(tmp_path)


THEIRS = """
def pytest_addoption(parser):
    parser.getgroup("theirs").addoption("--profile", action="store_true", help="theirs")
    parser.addoption("--destructive", dest="harm")
"""

USES = """
def test_it(pytestconfig):
    option = pytestconfig.option
    assert (option.profile, option.harm, option.roboticks_profile, option.roboticks_board) == (True, "x", "lab", "b")
    assert option.roboticks_destructive is False
"""


@pytest.mark.parametrize("who", ["a plugin", "a conftest.py"])
def test_an_option_of_others_is_theirs_and_ours_has_its_long_name(own: Pytest, who: str) -> None:
    words = ["--profile", "--destructive=x", "--roboticks-profile=lab", "--board", "b", "test_it.py"]
    if who == "a plugin":
        (own.folder / "theirs.py").write_text(THEIRS)
        own.variables["PYTHONPATH"] = str(own.folder)
        said = own.run(USES, *words, plugins=["theirs"])  # which comes behind ours
        ahead = "import pytest, sys; sys.exit(pytest.main(['-p', 'theirs', *sys.argv[1:]]))"
        assert "1 passed" in own.run(USES, *words, program=ahead)
    else:
        (own.folder / "conftest.py").write_text(THEIRS)
        said = own.run(USES, *words)
    assert "1 passed" in said


def test_our_options_have_short_names_where_nobody_else_has_them(own: Pytest) -> None:
    text = """
def test_it(pytestconfig):
    option = pytestconfig.option
    assert (option.roboticks_profile, option.roboticks_board, option.roboticks_destructive) == ("lab", "b", True)
"""
    for words in (["--profile=lab", "--board=b"], ["-o", "addopts=--profile lab", "--board", "b"]):
        assert "1 passed" in own.run(text, *words, "--destructive", "test_it.py")
    assert "--profile will do, and --board and --destructive, unless" in " ".join(own.run("", "--help").split())


FIXTURES = """
from roboticks_tasks.pytest_plugin.workers import uses_fixtures_of_ours

for name in ("device", "session", "deployment", "target", "power", "artifacts", "console", "bus"):
    globals()[name] = pytest.fixture(name=name)(lambda: "theirs")

@pytest.fixture
def roboticks_profile(roboticks_profile):
    return roboticks_profile.name

def test_theirs(request, device, session, deployment, target, power, artifacts, console, bus):
    assert {device, session, deployment, target, power, artifacts, console, bus} == {"theirs"}
    assert not uses_fixtures_of_ours(request.node)

def test_both(request, roboticks_profile):
    assert roboticks_profile == "lab"
    assert uses_fixtures_of_ours(request.node)
"""

OVERRIDDEN = """
@pytest.fixture
def deployment(): return None
def test_it(bus): pass
"""


def test_fixtures_of_others_win_and_their_tests_are_not_kept_together_for_the_board(own: Pytest) -> None:
    assert "2 passed" in own.run(FIXTURES)
    assert "this run has no result of deploy" in own.run(OVERRIDDEN), "ours do without what others have replaced"


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with own_folder(monkeypatch) as folder:
        yield folder


def test_files_of_a_pytest_that_was_killed_are_removed_and_those_of_others_stay(private: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    mine = own_file("-1.sock")
    for name in (f"pytest-{dead.pid}-1.sock", f"pytest-{dead.pid}.xml", f"pytest-{os.getppid()}.xml", "pytest-x.port"):
        (mine.parent / name).touch()
    mine.touch()
    assert own_file(".xml") == mine.with_name(f"pytest-{os.getpid()}.xml")
    assert {each.name for each in mine.parent.iterdir()} == {mine.name, f"pytest-{os.getppid()}.xml", "pytest-x.port"}


def test_a_platform_that_is_gone_is_no_word_about_the_device() -> None:
    platform = Platform(cast(Client, None))

    def refused() -> NoReturn:
        raise BackendError("it was refused with 404: no such session")

    def unreachable() -> NoReturn:
        raise BackendError("the platform cannot be reached") from OSError("refused")

    with pytest.raises(AssertionError, match=r"not within 0\.01 s; last seen: BackendError\('it was refused"):
        platform.wait_for(refused, timeout=0.01)
    with pytest.raises(BackendError, match="the platform cannot be reached"):
        platform.wait_for(unreachable, timeout=0.01)
