"""The noxfile: every profile and step has a session, and none that touches hardware runs by default."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sessions() -> dict[str, bool]:
    """Every session, and whether it runs by default."""
    listed = subprocess.check_output([sys.executable, "-m", "nox", "--list"], cwd=ROOT, text=True)
    rows = [line.split(" ")[:2] for line in listed.splitlines() if line.startswith(("* ", "- ")) and " -> " in line]
    return {name: mark == "*" for mark, name in rows}


def test_every_profile_has_a_session(sessions: dict[str, bool]) -> None:
    names = {path.stem for path in (ROOT / "hardware_profiles").glob("*.toml")}
    assert {f"hil-{name}" for name in names} | {"hil-test"} <= sessions.keys()


def test_every_step_has_a_session(sessions: dict[str, bool]) -> None:
    steps = {"ensure-binary", "launch-dm", "await-dsn", "await-session", "deploy", "pytest-session", "teardown"}
    assert steps <= sessions.keys()


def test_only_sessions_without_hardware_run_by_default(sessions: dict[str, bool]) -> None:
    assert {name for name, default in sessions.items() if default} == {"lint", "typecheck", "tests"}
