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


def main() -> None:
    """Print the table."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # it alone adds half to every start
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_RUNTIME_DIR"] = name
        (folder / "test_one.py").write_text("def test_one():\n    pass\n")
        bare = median(python("-c", "pass", folder=folder))
        package = median(python("-c", "import roboticks_tasks", folder=folder))
        one_test = median(python("-m", "pytest", "-q", "test_one.py", folder=folder))
        whole = median(python("-m", "roboticks_tasks", "hil-test", folder=folder))
        result = json.loads((folder / "test-output" / "sim-latest" / "result.json").read_text())
    print(f"{'what':44} {'ms':>8}  ratio")
    print(f"{'python -c pass':44} {bare:8.1f}  1 (baseline of the next)")
    print(f"{'import roboticks_tasks':44} {package:8.1f}  {package / bare:.2f}")
    print(f"{'pytest, one empty test':44} {one_test:8.1f}  1 (baseline of the next)")
    print(f"{'hil-test --profile sim, the example suite':44} {whole:8.1f}  {whole / one_test:.2f}")
    for step in result["steps"]:
        print(f"  {step['name']:42} {step['duration'] * 1000:8.1f}  {step['duration'] * 1000 / whole:.2f} of it")


if __name__ == "__main__":
    main()
