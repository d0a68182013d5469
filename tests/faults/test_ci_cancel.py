"""A job that is cancelled in CI: the signals and grace times of the runners, then the step that always runs.

GitHub Actions (docs.github.com/en/actions/reference/workflows-and-actions/workflow-cancellation; the runner's
src/Runner.Sdk/ProcessInvoker.cs, `_sigintTimeout`, `_sigtermTimeout`, `CancelAndKillProcessTree`): SIGINT to the
process of the step alone, a shell as a rule; SIGTERM to it after 7.5 s; SIGKILL of its process tree 2.5 s later. When
it ends before, five seconds more for whoever holds its output open (`ProcessExitedHandler`). Then `if: always()` steps.

GitLab (gitlab-runner's executors/shell/shell.go and helpers/process/killer.go, killer_unix.go): SIGTERM to the process
group of the script, SIGKILL to the group after `GracefulTimeout`, 10 min unless `graceful_kill_timeout` says otherwise;
then, since GitLab 17, `after_script` in a new shell.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conditions import until
from tests.e2e.bench import DEADLINE, Bench

README = Path(__file__).resolve().parents[2] / "README.md"

SECTION = "## Cancelling in CI"

SIGINT_GRACE = 7.5
"""Seconds between GitHub's SIGINT and its SIGTERM."""

SIGTERM_GRACE = 2.5
"""Seconds between GitHub's SIGTERM and its SIGKILL."""

LISTENS = """
import time
from pathlib import Path

def test_waits():
    Path("waiting").touch()
    time.sleep(60)
"""

IGNORES = """
import signal, subprocess, time
from pathlib import Path

def test_waits():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    subprocess.Popen(["sleep", "600"], start_new_session=True)  # it inherits the deafness
    Path("waiting").touch()
    time.sleep(60)
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench with `roboticks-tasks` on its PATH, as in a job."""
    one = Bench(tmp_path)
    one.environment |= {
        "PATH": f"{Path(sys.executable).parent}:{one.environment['PATH']}",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "-p roboticks_tasks.pytest_plugin -p no:cacheprovider",
        "GITHUB_ACTIONS": "true",
        "CI": "true",
    }
    try:
        yield one
        one.assert_nothing_is_left()
    finally:
        one.kill_everything()


def blocks(language: str) -> list[str]:
    """The code of one language in the README's section about cancelling."""
    section = README.read_text(encoding="utf-8").partition(f"\n{SECTION}\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def commands(word: str) -> list[str]:
    """The lines of the recipes in which `roboticks-tasks WORD` is called, without what YAML puts before them."""
    lines = [line.strip() for block in blocks("yaml") for line in block.splitlines()]
    found = [re.sub(r"^(- |run: )+", "", line) for line in lines if f"roboticks-tasks {word}" in line]
    return [re.sub(r"--profile \S+", "--profile sim", line) for line in found]


def recipe(word: str) -> str:
    """The command of the recipes: both CI systems call the same one."""
    [found] = set(commands(word))
    return found


def start_step(bench: Bench, tests: str, *, script: str) -> subprocess.Popen[bytes]:
    """Start a job's step: a script file in a shell, in a process group of its own, until its tests run."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    (bench.folder / "test_waits.py").write_text(tests)
    (bench.folder / "step.sh").write_text(f"{script}\n")
    command = [bash, "--noprofile", "--norc", "-eo", "pipefail", "step.sh"]
    with (bench.folder / "output").open("wb") as output:
        step = subprocess.Popen(
            command,
            cwd=bench.folder,
            env=bench.environment | {"ROBOTICKS_TEST_COMMAND": "pytest test_waits.py"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
        )
    waiting = bench.folder / "waiting"
    until(lambda: waiting.exists() or step.poll() is not None, "the tests run", timeout=DEADLINE)
    assert waiting.exists(), (bench.folder / "output").read_text()
    return step


def run_always(bench: Bench) -> int:
    """Do what the step does that always runs; return its exit code."""
    command = shlex.split(recipe("teardown"))
    done = subprocess.run(command, cwd=bench.folder, env=bench.environment, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def cancel_on_github(step: subprocess.Popen[bytes], *, pace: float = 1.0) -> bool:
    """Cancel as GitHub does; return whether the step ended before it was killed.

    `pace` shortens the time of those who do nothing with it.
    """
    for number, grace in ((signal.SIGINT, SIGINT_GRACE), (signal.SIGTERM, SIGTERM_GRACE)):
        step.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            step.wait(grace * pace)
            return True
    for pid in tree(step.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    step.wait()
    return False


def tree(pid: int) -> list[int]:
    """A process and its descendants, the children before their parents."""
    with suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [each for child in children for each in tree(int(child))] + [pid]
    return []


def hil_test() -> str:
    return recipe("hil-test")


def test_on_github_a_run_has_torn_down_long_before_it_would_be_killed(bench: Bench) -> None:
    step = start_step(bench, LISTENS, script=f"exec {hil_test()}")
    assert cancel_on_github(step)
    bench.assert_nothing_is_left()
    assert step.returncode == 130
    assert (bench.result()["verdict"], bench.result()["exit_code"]) == ("cancelled", 130)
    assert run_always(bench) == 0
    assert bench.result()["exit_code"] == 130


def test_on_github_tests_that_ignore_every_signal_do_not_cost_the_run_its_teardown(bench: Bench) -> None:
    step = start_step(bench, IGNORES, script=f"exec {hil_test()}")
    assert cancel_on_github(step)
    assert step.returncode == 130
    assert run_always(bench) == 0
    bench.assert_nothing_is_left()
    assert bench.result()["verdict"] == "cancelled"


def test_on_github_a_run_that_was_killed_is_torn_down_by_the_step_that_always_runs(bench: Bench) -> None:
    """The worst case: a run that cannot answer, because it has been stopped, is killed with its whole tree."""
    step = start_step(bench, IGNORES, script=f"exec {hil_test()}")
    step.send_signal(signal.SIGSTOP)
    assert not cancel_on_github(step, pace=0.02)
    assert run_always(bench) == 0
    bench.assert_nothing_is_left()
    result = bench.result()
    assert (result["verdict"], result["exit_code"]) == ("cancelled", 137)


def test_on_github_a_run_below_a_shell_is_told_when_the_shell_is(bench: Bench) -> None:
    """A shell that waits for a program passes no signal on; it ignores SIGINT until then, and dies of SIGTERM."""
    step = start_step(bench, LISTENS, script=f"{hil_test()}\ntrue")
    step.send_signal(signal.SIGINT)
    step.terminate()
    assert step.wait(DEADLINE) == -signal.SIGTERM
    assert run_always(bench) == 0  # it waits for the board
    assert (bench.result()["verdict"], bench.result()["exit_code"]) == ("cancelled", 143)


def test_on_gitlab_the_whole_group_is_told_and_the_run_tears_down(bench: Bench) -> None:
    step = start_step(bench, LISTENS, script=f"{hil_test()}\ntrue")
    os.killpg(step.pid, signal.SIGTERM)
    step.wait(DEADLINE)
    # The runner waits for the end of the script's output, which is the end of the run.
    until(lambda: not bench.running(), "the run has ended", timeout=DEADLINE)
    assert (bench.result()["verdict"], bench.result()["exit_code"]) == ("cancelled", 143)
    assert run_always(bench) == 0
    assert bench.result()["exit_code"] == 143


def test_on_gitlab_a_run_that_was_killed_is_torn_down_by_the_after_script(bench: Bench) -> None:
    step = start_step(bench, LISTENS, script=f"{hil_test()}\ntrue")
    os.killpg(step.pid, signal.SIGKILL)
    step.wait()
    assert run_always(bench) == 0
    bench.assert_nothing_is_left()
    result = bench.result()
    assert (result["verdict"], result["exit_code"]) == ("cancelled", 137)


def test_the_recipes_of_the_readme_are_there_for_both(bench: Bench) -> None:
    github, gitlab = blocks("yaml")
    assert "if: always()" in github
    assert "after_script:" in gitlab
    assert len(commands("teardown")) == 2
