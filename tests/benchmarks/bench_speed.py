"""How fast it is, as ratios against baselines of the same run: `nox -s benchmarks`.

Absolute times of a shared machine mean little; each line names its baseline.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # it is run as a program, the tests are no package

from roboticks_tasks.targets.files import sync_tree
from roboticks_tasks.targets.local import LocalTarget
from roboticks_tasks.targets.ssh import open_ssh
from tests.contract.sshd import running_sshd
from tests.e2e.board_profiles import manager, over_ssh
from tests.parts import find

RUNS = 5


def median(action: Callable[[], object], *, runs: int = RUNS) -> float:
    """Return the median time of `action` in milliseconds, after one run to warm up."""
    action()
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        action()
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


def python(*words: str, folder: Path) -> Callable[[], object]:
    """Return an action that runs this interpreter with `words`."""

    def action() -> object:
        return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, check=True)

    return action


def board_over_ssh(folder: Path) -> None:
    """Print what a board behind ssh on the loopback costs, against the same on this machine."""
    with running_sshd(folder / "sshd") as sshd:
        profile = sshd.profile()
        board_profile = folder / "board.toml"
        board_profile.write_text(over_ssh(sshd, device_manager=manager("simulated", folder / "root")))
        local = LocalTarget()
        tree = folder / "tree"
        for number in range(400):
            path = tree / f"{number % 20}" / f"{number}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(1 << 18))
        with open_ssh(profile) as target:
            local_command = median(lambda: local.run(["true"]), runs=50)
            command = median(lambda: target.run(["true"]), runs=50)
            unchanged = {}
            for name, each in (("this machine", local), ("ssh", target)):
                place = str(folder / name)
                sync_tree(each, tree, place)
                unchanged[name] = median(lambda each=each, place=place: sync_tree(each, tree, place))  # type: ignore[misc]
        sim = python("-m", "roboticks_tasks", "hil-test", folder=folder)
        ssh = python("-m", "roboticks_tasks", "hil-test", "--profile", str(board_profile), folder=folder)
        whole, over = median(sim), median(ssh)
    print(f"{'a command of this machine':44} {local_command:8.1f}  1 (baseline of the next)")
    print(f"{'a command over an open ssh target':44} {command:8.1f}  {command / local_command:.2f}")
    here, there = unchanged.values()
    print(f"{'100 MB unchanged, this machine':44} {here:8.1f}  1 (baseline of the next)")
    print(f"{'100 MB unchanged, over ssh':44} {there:8.1f}  {there / here:.2f}")
    print(f"{'hil-test --profile sim':44} {whole:8.1f}  1 (baseline of the next)")
    print(f"{'hil-test over ssh on the loopback':44} {over:8.1f}  {over / whole:.2f}")


def main() -> None:
    """Print the table."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # it alone adds half to every start
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_RUNTIME_DIR"] = name
        os.environ["ROBOTICKS_BENCH"] = f"{name}/bench"
        (folder / "test_one.py").write_text("def test_one():\n    pass\n")
        bare = median(python("-c", "pass", folder=folder))
        package = median(python("-c", "import roboticks_tasks", folder=folder))
        one_test = median(python("-m", "pytest", "-q", "test_one.py", folder=folder))
        whole = median(python("-m", "roboticks_tasks", "hil-test", folder=folder))
        result = json.loads((folder / "test-output" / "sim-latest" / "result.json").read_text())
        if find("sshd"):
            board_over_ssh(folder)
        else:
            print("no sshd is installed: nothing is said of boards")
    print(f"{'what':44} {'ms':>8}  ratio")
    print(f"{'python -c pass':44} {bare:8.1f}  1 (baseline of the next)")
    print(f"{'import roboticks_tasks':44} {package:8.1f}  {package / bare:.2f}")
    print(f"{'pytest, one empty test':44} {one_test:8.1f}  1 (baseline of the next)")
    print(f"{'hil-test --profile sim, the example suite':44} {whole:8.1f}  {whole / one_test:.2f}")
    for step in result["steps"]:
        print(f"  {step['name']:42} {step['duration'] * 1000:8.1f}  {step['duration'] * 1000 / whole:.2f} of it")


if __name__ == "__main__":
    main()
