"""The templates of ci/ do what they say: their own lines, run as the CI system would, in a clone of the project.

Only two things are not real: `python3 -m venv` links the environment that runs the tests instead of making one, and
the pip in it notes its arguments instead of installing.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.ci.templates import CI, Job, azure, buildkite, github, jenkins, jobs
from tests.conditions import until
from tests.e2e.bench import DEADLINE, Bench

ROOT = CI.parent

LEFT_OUT = (".git", ".nox", ".venv", "test-output", ".roboticks", "__pycache__", ".*_cache", ".hypothesis")
"""What of a folder without git is no part of the project."""

PYTHON = """#!/bin/sh
[ "$1 $2" = "-m venv" ] || exec {python} "$@"
mkdir -p "$3/bin"
ln -s {folder}/roboticks-tasks "$3/bin/roboticks-tasks"
printf '#!/bin/sh\\nprintf "%%s\\\\n" "$@" > {asked}\\n' > "$3/bin/pip"
chmod +x "$3/bin/pip"
"""

WAITS = """
import time
from pathlib import Path

def test_waits():
    Path("waiting").touch()
    time.sleep(60)
"""


def copy_project(clone: Path) -> None:
    """Copy what a clone would have: what git knows of, or, in a tarball, all."""
    words = ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"]
    done = None
    if (ROOT / ".git").exists() and shutil.which("git"):
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if done is None or done.returncode != 0:
        shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(*LEFT_OUT), dirs_exist_ok=True)
        return
    for name in filter(None, done.stdout.split("\0")):
        target = clone / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError, IsADirectoryError):  # removed, and not yet committed as removed
            shutil.copyfile(ROOT / name, target)


class Runner(Bench):
    """A runner's machine: a clone to work in, and a python3 of its own."""

    def __init__(self, folder: Path, job: Job) -> None:
        super().__init__(folder / "clone")
        self.job = job
        self.asked = folder / "asked-of-pip"
        copy_project(self.folder)
        (self.folder / "temp").mkdir()
        programs = folder / "programs"
        programs.mkdir()
        python = Path(sys.executable)
        text = PYTHON.format(python=python, folder=python.parent, asked=self.asked)
        (programs / "python3").write_text(text)
        (programs / "python3").chmod(0o755)
        system = {**job.environment, **job.variables}
        self.environment |= {
            **{name: value.replace("{folder}", str(self.folder)) for name, value in system.items()},
            "PATH": f"{programs}:{self.environment['PATH']}",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_ADDOPTS": "-p roboticks_tasks.pytest_plugin -p no:cacheprovider",
        }

    def start(self, script: str, shell: tuple[str, ...]) -> subprocess.Popen[bytes]:
        """Start a script as the system's runner does, in a process group of its own."""
        path = self.folder / "temp" / "script.sh"
        path.write_text(script)
        with (self.folder / "output").open("wb") as output:
            return subprocess.Popen(
                [*shell, str(path)],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )

    def do(self, script: str, shell: tuple[str, ...]) -> tuple[int, str]:
        """Run a script to its end; return its exit code and what it said."""
        code = self.start(script, shell).wait(DEADLINE)
        said = (self.folder / "output").read_text()
        assert "Traceback" not in said, said
        return code, said

    def tear_down(self) -> int:
        """Do what the template does at the end of every job."""
        code, said = self.do(self.job.teardown, self.job.teardown_shell)
        print(said)
        return code

    @property
    def run_folder(self) -> Path:
        """The folder that the template keeps as an artifact."""
        return self.folder / self.environment.get("HIL_FOLDER", "test-output/hil")


@pytest.fixture
def runner(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Runner]:
    one = Runner(tmp_path, request.param)
    try:
        yield one
        one.assert_nothing_is_left()
    finally:
        one.kill_everything()


@pytest.mark.parametrize("runner", jobs(), ids=lambda job: job.name, indirect=True)
def test_a_job_passes_leaves_its_reports_and_nothing_else(runner: Runner) -> None:
    job = runner.job
    if job.install:
        code, said = runner.do(job.install, job.shell)
        assert code == 0, said
    code, said = runner.do(job.run, job.shell)
    assert code == 0, said
    assert runner.asked.read_text().split("\n")[:-1] == ["install", "--quiet", "roboticks-tasks[sim,serial]"]
    assert "6 tests passed" in said
    result = runner.result(runner.run_folder)
    assert (result["verdict"], result["exit_code"]) == ("passed", 0)
    assert result["provenance"]["ci"] == job.name.replace("_", "-")
    suites = ElementTree.parse(runner.run_folder / "results.xml").getroot()
    assert sum(1 for case in suites.iter("testcase") if "hello_world" in case.get("classname", "")) == 6
    assert runner.tear_down() == 0
    again = runner.result(runner.run_folder)
    assert [again[name] for name in ("run_id", "verdict", "exit_code")] == [result["run_id"], "passed", 0]
    if summary := runner.environment.get("GITHUB_STEP_SUMMARY"):
        assert "passed" in Path(summary).read_text()


def begin(runner: Runner, *before: str) -> subprocess.Popen[bytes]:
    """Bring a job to where its tests wait; `before` is what stands between the runner and the shell."""
    (runner.folder / "test_waits.py").write_text(WAITS)
    runner.environment["ROBOTICKS_TEST_COMMAND"] = "pytest test_waits.py"
    job = runner.job
    if job.install:
        assert runner.do(job.install, job.shell)[0] == 0
    step = runner.start(job.run, (*before, *job.shell))
    waiting = runner.folder / "waiting"
    until(lambda: waiting.exists() or step.poll() is not None, "the tests run", timeout=DEADLINE)
    assert waiting.exists(), (runner.folder / "output").read_text()
    return step


def has_the_cookie(pid: int) -> bool:
    with suppress(OSError):
        return b"JENKINS_SERVER_COOKIE=durable-1\0" in Path(f"/proc/{pid}/environ").read_bytes()
    return False


@pytest.mark.parametrize("runner", [jenkins()], ids=["jenkins"], indirect=True)
def test_jenkins_which_kills_all_that_has_its_cookie_does_not_cost_the_run_its_teardown(runner: Runner) -> None:
    """An abort sends SIGTERM to each such process and SIGKILL after `SoftKillWaitSeconds`, here at once.

    (jenkinsci/jenkins, core's hudson/util/ProcessTree.java; FileMonitoringTask.java of its durable-task plugin)
    """
    step = begin(runner)
    told = [pid for pid in runner.running() if has_the_cookie(pid)]
    assert step.pid in told
    for pid in told:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
    step.wait(DEADLINE)
    assert runner.tear_down() == 0
    assert (runner.result(runner.run_folder)["verdict"], runner.result(runner.run_folder)["exit_code"]) == (
        "cancelled",
        143,
    )


@pytest.mark.parametrize("runner", [azure()], ids=["azure"], indirect=True)
def test_on_azure_the_run_ends_with_the_process_that_has_started_its_shell(runner: Runner) -> None:
    """The agent's SIGINT goes to the task's own process alone (its src/Agent.Sdk/ProcessInvoker.cs)."""
    task = "import signal, subprocess, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); subprocess.call(sys.argv[1:])"
    step = begin(runner, sys.executable, "-c", task)
    step.send_signal(signal.SIGINT)
    assert step.wait(DEADLINE) == -signal.SIGINT
    assert runner.tear_down() == 0
    assert (runner.result(runner.run_folder)["verdict"], runner.result(runner.run_folder)["exit_code"]) == (
        "cancelled",
        143,
    )


@pytest.mark.parametrize("runner", [buildkite()], ids=["buildkite"], indirect=True)
def test_on_buildkite_the_run_has_torn_down_when_the_hook_comes(runner: Runner) -> None:
    """The agent's SIGTERM goes to the command's process group (buildkite.com/docs/agent/lifecycle)."""
    step = begin(runner)
    os.killpg(step.pid, signal.SIGTERM)
    assert step.wait(DEADLINE) == 143
    runner.assert_nothing_is_left()
    assert runner.tear_down() == 0
    assert (runner.result(runner.run_folder)["verdict"], runner.result(runner.run_folder)["exit_code"]) == (
        "cancelled",
        143,
    )


@pytest.mark.parametrize("runner", [github()], ids=["github"], indirect=True)
def test_the_step_that_always_runs_is_0_where_nothing_has_run(runner: Runner) -> None:
    assert runner.do(runner.job.install, runner.job.shell)[0] == 0
    assert runner.tear_down() == 0
