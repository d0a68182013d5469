"""Our JUnit files are valid by the schema that Jenkins publishes, and that pytest's own files are tested with."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import xmlschema

from roboticks_tasks.models import RunResult
from roboticks_tasks.reporting import junit
from tests.parts import find, missing
from tests.unit.junit_files import a_result, counted, up_to

SUITE = """
import pytest
@pytest.fixture
def breaks(): raise ValueError
@pytest.fixture
def ends_badly():
    yield
    raise ValueError
def test_passes(record_testsuite_property): record_testsuite_property("known", "\\x1b<&>")
def test_fails(): print("\\0said"); assert "<b>" == "&"
def test_errors(breaks): pass
def test_fails_twice(ends_badly): assert False
@pytest.mark.skip
def test_skipped(): pass
@pytest.mark.xfail
@pytest.mark.parametrize("text", ["\\x00\\x1b\\U0001f916<>&]]>"])
def test_fails_as_expected(text): assert False
"""

OFFLINE = re.compile("No matching distribution|Connection|Failed to establish|Name or service|timed out", re.IGNORECASE)


def pip() -> list[str]:
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    return [find("pip") or find("pip3") or missing("pip is not installed")]


def schema(folder: Path) -> xmlschema.XMLSchema:
    """Return `junit-10.xsd` of Jenkins's xUnit plugin out of pytest's source package, where its licence stands too."""
    words = ["download", "-q", "--no-deps", "--no-binary", "pytest", "-d", str(folder), f"pytest=={version('pytest')}"]
    done = subprocess.run([*pip(), *words], capture_output=True, text=True)
    if done.returncode != 0 and OFFLINE.search(done.stderr):
        missing("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    [package] = folder.glob("pytest-*.tar.gz")
    with tarfile.open(package) as archive:
        [name] = [name for name in archive.getnames() if name.endswith("/junit-10.xsd")]
        member = archive.extractfile(name)
        assert member is not None
        return xmlschema.XMLSchema(member.read().decode())


def outcomes() -> dict[str, RunResult]:
    """Return a run of every kind."""
    nasty = "said \0\x1b<b>&]]>\ud800\U0001f916" * 3
    broken = {
        f"{verdict} in {step}": a_result(verdict, code, nasty, steps=up_to(step, verdict, code, error=nasty))
        for verdict, code in (("failed", 14), ("bench-error", 12), ("backend-error", 11), ("config-error", 10))
        for step in ("ensure_board", "deploy", "pytest_session")
    }
    return {
        **broken,
        "passed": a_result(dsn=nasty, session_id=nasty, board_id=nasty),
        "failed": a_result("failed", 1, "4 of 5 tests failed", tests=counted(passed=1, failed=4)),
        "cancelled": a_result("cancelled", 143, nasty, steps=up_to("deploy", "cancelled", 143, outcome="cancelled")),
        "cancelled late": a_result("cancelled", 129, nasty),
        "killed": a_result("cancelled", 137, nasty, steps=()),
        "refused": a_result("bench-error", 20, nasty, steps=(), started_at="", duration=-1.0),
        "ended with a code": a_result("failed", 1, nasty, tests=counted(passed=1, code=1)),
        "unsafe": a_result("bench-error", 17, nasty, steps=up_to("teardown", "bench-error", 17)[:-1]),
    }


def test_files_of_every_kind_of_outcome_are_valid(tmp_path: Path) -> None:
    by = schema(tmp_path / "package")
    assert not by.is_valid('<testsuites><testsuite name="a"/></testsuites>')
    (tmp_path / "test_all.py").write_text(SUITE)
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:roboticks", "--junitxml=all.xml", "test_all.py"]
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout
    tests = (tmp_path / "all.xml").read_bytes()
    by.validate(str(tmp_path / "all.xml"))
    path = tmp_path / "pytest.xml"
    for result in outcomes().values():
        for content in (None, b"", tests[: len(tests) // 2], tests):
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
            junit.write_junit(tmp_path, result, None)
            by.validate(str(tmp_path / "lifecycle.xml"))
            by.validate(str(tmp_path / "results.xml"))
    junit.write_stand_in(path, seconds=1, message="said \0")
    by.validate(str(path))
