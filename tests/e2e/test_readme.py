"""README keeps its word: its commands run, its script works, its tables are true."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import roboticks_tasks
from roboticks_tasks import errors, pytest_plugin
from roboticks_tasks.arguments import KEEP, parser
from roboticks_tasks.lifecycle.support.group import INTERRUPT_GRACE
from roboticks_tasks.lifecycle.support.record import FIELDS
from roboticks_tasks.profiles.files import ENVIRONMENT
from roboticks_tasks.profiles.values import Profile
from roboticks_tasks.redaction import LEAST
from tests.e2e.bench import Bench
from tests.faults.campaign import HEAD
from tests.faults.injections import FAULTS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIXTURES = {
    name
    for name, value in vars(pytest_plugin).items()
    if isinstance(value, type(pytest_plugin.device)) and not name.startswith("roboticks_")
}


def section(title: str) -> str:
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def first_column(text: str) -> list[str]:
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    return rows[2:]


def test_the_first_command_passes_in_a_fresh_clone_with_an_empty_home(tmp_path: Path) -> None:
    command = blocks(section("Quick start"), "sh")[0]
    clone, home = tmp_path / "clone", tmp_path / "home"
    home.mkdir()
    files = subprocess.check_output(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT).decode()
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_"))}
    done = subprocess.run(
        ["sh", "-ec", command],
        cwd=clone,
        env={**kept, "HOME": str(home), "PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    offline = re.search(r"No matching distribution|Failed to fetch|ConnectionError", done.stderr)
    if done.returncode != 0 and offline and not os.environ.get("CI"):
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed: 6 tests passed" in done.stdout
    [folder] = [path for path in (clone / "test-output").iterdir() if not path.is_symlink()]
    names = {path.name for path in folder.iterdir()}
    assert {"test-run.log", "result.json", "results.xml", "device-manager.log"} <= names
    assert names <= set(re.findall(r"`(\S+)`", " ".join(first_column(section("The run folder")))))


def test_the_second_command_is_what_ci_runs() -> None:
    commands = blocks(section("Quick start"), "sh")
    assert len(commands) == 2
    assert "nox -s tests" in commands[1]
    assert "## Quick start" in (ROOT / ".ci" / "run").read_text()


def test_the_script_that_only_deploys_has_12_lines_at_most_and_works(bench: Bench) -> None:
    [script] = blocks(section("One step from your own script"), "python")
    assert len([line for line in script.splitlines() if line.strip()]) <= 12
    for step in ("ensure-binary", "launch-dm", "await-dsn", "await-session"):
        assert bench.run(step).code == 0
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=bench.folder, env=bench.environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "HelloWorldComposition dev running\n"), done.stderr
    assert bench.run("pytest-session", "--", "-k", "mode").code == 0  # the tests know what the script has deployed
    assert bench.run("teardown").code == 0


def test_the_table_of_functions_names_all_seven_in_order() -> None:
    names = [row.strip("`") for row in first_column(section("The seven functions"))]
    order = ["ensure_binary", "launch_dm", "await_dsn", "await_session", "deploy", "pytest_session", "teardown"]
    assert names == order
    assert all(callable(getattr(roboticks_tasks, name)) for name in names)


def test_the_table_of_exit_codes_is_complete() -> None:
    codes = {int(code) for row in first_column(section("Exit codes and verdicts")) for code in row.split(",")}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    used = {kind.exit_code for kind in kinds if issubclass(kind, errors.RoboticksError)}
    constants = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert used | constants | {129, 130, 143} == codes


def test_the_table_of_verdicts_is_complete() -> None:
    rows = [row.strip("`") for row in first_column(section("Troubleshooting by verdict"))]
    assert {*rows, "passed"} == set(errors.Verdict)


def test_the_table_of_variables_is_true() -> None:
    rows = [line.split("|")[1:4] for line in section("Profiles").splitlines() if line.startswith("| `ROBOTICKS")]
    documented = {row[0].strip(" `"): row[1].strip(" `") for row in rows}
    assert documented.pop("ROBOTICKS_PROJECT_SECRET") == "never in a profile"
    assert documented.items() <= ENVIRONMENT.items()
    assert len(documented) == 6
    defaults = {row[0].strip(" `"): row[2].strip(" `") for row in rows}
    assert defaults["ROBOTICKS_API_URL"] == Profile().backend
    assert defaults["ROBOTICKS_TEST_COMMAND"] == Profile().tests.command
    assert float(defaults["ROBOTICKS_TEST_TIMEOUT"]) == Profile().tests.timeout


def test_the_table_of_fixtures_is_complete() -> None:
    rows = [row.strip("`") for row in first_column(section("Your tests"))]
    fixtures, markers = rows[: len(FIXTURES)], [row.partition("(")[0] for row in rows[len(FIXTURES) + 2 :]]
    assert set(fixtures) == FIXTURES
    assert markers == [line.partition(":")[0].partition("(")[0] for line in pytest_plugin.MARKERS]


def test_every_room_is_in_the_table_of_rooms() -> None:
    table = " ".join(first_column(section("The code")))
    package = ROOT / "roboticks_tasks"
    rooms = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert {room for room in rooms if not room.startswith("_")} == set(re.findall(r"`(\w+)/?`", table))


def test_every_file_and_link_that_readme_names_exists() -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target.partition("#")[0]).exists(), target
    for path in re.findall(r"`((?:roboticks_tasks|hardware_profiles|tests)/[\w/.]+\.\w+)`", README):
        assert (ROOT / path).exists(), path


def test_the_run_that_readme_shows_has_the_steps_of_a_run() -> None:
    [shown, *_] = blocks(README, "text")
    assert sorted(re.findall(r"INFO +(\w+) +ok", shown)) == sorted(FIELDS)
    [times] = re.findall(r"^  time .*", shown, re.MULTILINE)
    assert re.findall(r"(\w+) [\d.]+,? ", times) == re.findall(r"INFO +(\w+) +ok", shown)


def test_every_command_that_readme_names_is_one() -> None:
    lines = [line for kind in ("sh", "text", "yaml") for block in blocks(README, kind) for line in block.splitlines()]
    inline = re.findall(r"`(roboticks-tasks [^`]+)`", README)
    commands = [line.partition("roboticks-tasks ")[2] for line in (*lines, *inline) if "roboticks-tasks " in line]
    assert len(commands) > 15
    for command in commands:
        words = shlex.split(command.partition(" -- ")[0], comments=True)
        assert parser().parse_args([word.partition("|")[0] for word in words]).command


def test_the_times_that_readme_names_are_the_defaults() -> None:
    text = " ".join(section("Nothing is left behind").split())
    assert f"all within {Profile().timeouts.teardown:g} s of the first signal" in text
    assert f"the tests' own fixtures have {INTERRUPT_GRACE:g} of them" in text
    assert f"without a heartbeat ({Profile().device_manager.watchdog:g})" in text
    assert "for half an hour" in text
    assert KEEP == 1800
    assert f"They have {LEAST} characters at least" in text


def test_the_table_of_what_became_of_faults_is_of_the_faults_and_runs_that_readme_says() -> None:
    head, _, *rows = (ROOT / "tests" / "faults" / "TABLE.md").read_text().splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert tuple(cell.strip() for cell in head.strip("|").split("|")) == HEAD
    assert [row[0] for row in cells] == [*FAULTS, "all"]
    assert f"the outcome of {cells[-1][HEAD.index('runs')]} runs" in README
    for problem in ("left behind", "lost", "wrong"):
        assert {row[HEAD.index(problem)] for row in cells} == {"0"}, problem
