"""What a user installs: the wheel has the profiles, the example suite and nothing of the repository's own."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.e2e.bench import Bench

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built as an installer does."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [path] = folder.glob("*.whl")
    return path


def test_the_wheel_has_what_a_run_needs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "roboticks_tasks/py.typed",
        "roboticks_tasks/hardware_profiles/sim.toml",
        "roboticks_tasks/hardware_profiles/profile.schema.json",
        "roboticks_tasks/sim/hello_world/deployment/HelloWorldComposition/composition.yaml",
        "roboticks_tasks/sim/hello_world/hil/test_hello_world.py",
        "roboticks_tasks/history/page.html.j2",
        "roboticks_tasks/history/page.css",
        "roboticks_tasks/reporting/page/page.html.j2",
        "roboticks_tasks/reporting/page/page.css",
        "roboticks_tasks/reporting/page/page.js",
    } <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"roboticks_tasks"}


def test_the_main_job_runs_from_the_wheel_in_an_empty_folder(wheel: Path, bench: Bench, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    done = bench.run("hil-test", "--", "-k", "registered or order", variables={"PYTHONPATH": str(site)})
    assert done.code == 0, done.err
    listed = bench.run("profiles", variables={"PYTHONPATH": str(site)}).out
    assert str(site / "roboticks_tasks" / "hardware_profiles" / "sim.toml") in listed
