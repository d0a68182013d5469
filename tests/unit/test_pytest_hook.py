"""Our names in a conftest.py: pytest takes what begins with `pytest_` for hooks, and must not die on ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PLAIN = "def test_it_runs() -> None: pass\n"


def run_pytest(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:anyio", "-p", "no:xdist", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("line", ["from roboticks_tasks import pytest_session", "from roboticks_tasks import *"])
def test_a_conftest_may_import_our_functions(tmp_path: Path, line: str) -> None:
    (tmp_path / "conftest.py").write_text(f"{line}\n")
    (tmp_path / "test_a.py").write_text(PLAIN)
    done = run_pytest(tmp_path, "-q")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_a_test_module_may_import_our_functions_without_pytest_taking_them_for_tests(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(f"from roboticks_tasks import *\n{PLAIN}")
    assert "1 passed" in run_pytest(tmp_path, "-q").stdout


def test_the_fixtures_are_there_with_a_sentence_each(tmp_path: Path) -> None:
    shown = run_pytest(tmp_path, "--fixtures", "-v").stdout
    for name in ("roboticks_run", "device", "session", "deployment", "platform", "bus"):
        assert f"\n{name} " in shown
    assert "no docstring available" not in shown.partition("roboticks_tasks.pytest_plugin")[2]


def test_a_fixture_without_a_run_says_how_to_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBOTICKS_RUN", raising=False)
    (tmp_path / "test_a.py").write_text("def test_device(device) -> None: pass\n")
    done = run_pytest(tmp_path, "-q")
    assert "ROBOTICKS_RUN is not set; start the tests with `pytest --profile NAME` or" in done.stdout
    assert "Traceback" not in done.stdout
    assert done.returncode == 1
