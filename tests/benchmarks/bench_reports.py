"""What reports and plugin cost, as ratios against baselines of the same run: `nox -s benchmarks`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # it is run as a program, the tests are no package

from roboticks_tasks.history import History
from tests.benchmarks.large_run import write_large_run
from tests.parts import find
from tests.unit.made_history import finished, make

EMPTY_TESTS = 2000
SEVERAL = 5

COUNT = """
import sqlite3, sys
sqlite3.connect(sys.argv[1]).execute("SELECT sum(duration) FROM outcome").fetchone()
"""

MAKE = """
import os, sys, time
from pathlib import Path
begin = time.perf_counter()
from roboticks_tasks.publishing import make_reports
make_reports(Path(sys.argv[1]), environ=os.environ)
print(time.perf_counter() - begin)
"""


def seconds(*words: str, folder: Path, **variables: str) -> float:
    """Return the time in seconds that this interpreter needs for `words`, the best of several."""
    times = []
    for _ in range(SEVERAL):
        begin = time.perf_counter()
        environment = {**os.environ, **variables}
        subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, check=True, env=environment)
        times.append(time.perf_counter() - begin)
    return min(times)


def made(folder: Path) -> float:
    """Return the time in seconds in which a process that has imported nothing makes a run's reports."""
    done = subprocess.run([sys.executable, "-c", MAKE, str(folder)], capture_output=True, check=True, text=True)
    return float(done.stdout)


def plugin(folder: Path, run: Path) -> None:
    """Print what the plugin costs each test of a run, against pytest without it."""
    (folder / "test_empty.py").write_text(
        f"import pytest\n@pytest.mark.parametrize('n', range({EMPTY_TESTS}))\ndef test_nothing(n):\n    pass\n"
    )
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "test_empty.py")
    without = seconds(*words, "-p", "no:roboticks_tasks", folder=folder)
    idle = seconds(*words, folder=folder)
    within = seconds(*words, folder=folder, ROBOTICKS_RUN=str(run))
    print(f"{EMPTY_TESTS} empty tests without the plugin{without * 1000:20.0f} ms  1 (baseline of the next)")
    print(f"{'  with it, outside a run':44}{idle * 1000:8.0f} ms  {idle / without:.2f}")
    each = (within - without) / EMPTY_TESTS * 1000
    print(f"{'  with it, in a run':44}{within * 1000:8.0f} ms  {within / without:.2f}, {each:.3f} ms a test")


def small(folder: Path) -> Path:
    """Run profile sim, print what its reports cost against the run; return its folder."""
    begin = time.perf_counter()
    words = [sys.executable, "-m", "roboticks_tasks", "hil-test", "--artifacts", "run"]
    subprocess.run(words, cwd=folder, capture_output=True, check=True)
    whole = time.perf_counter() - begin
    reports = min(made(folder / "run") for _ in range(SEVERAL))
    print(f"{'hil-test --profile sim':44}{whole * 1000:8.0f} ms  1 (baseline of the next)")
    print(f"{'  making its reports':44}{reports * 1000:8.0f} ms  {reports / whole:.2f}")
    return folder / "run"


def large(folder: Path) -> None:
    """Print what a large run's reports cost, against reading its logs, and how fast its page opens."""
    write_large_run(folder)
    begin = time.perf_counter()
    for name in ("device-manager.log", "console.log"):
        with (folder / name).open("rb") as stream:
            for _ in stream:
                pass
    read = time.perf_counter() - begin
    took = made(folder)
    page = folder / "report.html"
    print(f"{'reading 100 MB of logs, line by line':44}{read * 1000:8.0f} ms  1 (baseline of the next)")
    print(f"{'  reports of 5000 tests with these logs':44}{took * 1000:8.0f} ms  {took / read:.1f}")
    print(f"{'  size of the page':44}{page.stat().st_size / 1e6:8.2f} MB")
    browser = find("chromium")
    if browser is None:
        print("  how fast it opens is not measured: there is no chromium")
        return
    empty = folder / "empty.html"
    empty.write_text("<!DOCTYPE html><title>empty</title>")
    nothing, something = opened(browser, empty), opened(browser, page)
    print(f"{'opening an empty page in Chromium':44}{nothing * 1000:8.0f} ms  1 (baseline of the next)")
    print(f"{'  opening the large run'}{' ' * 21}{something * 1000:8.0f} ms  {something / nothing:.1f}")


def opened(browser: str, page: Path) -> float:
    """Return the time in seconds until a page is loaded and drawn in a Chromium that runs already."""
    from playwright.sync_api import sync_playwright

    from tests.browser.chromium import ARGUMENTS

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=ARGUMENTS)
        tab = chromium.new_page()
        begin = time.perf_counter()
        tab.goto(page.as_uri())
        tab.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        took = time.perf_counter() - begin
        chromium.close()
    return took


def history(folder: Path) -> None:
    """Print what it costs to ask a history of 10,000 runs what is flaky, against counting its rows."""
    path = folder / "history.sqlite3"
    made = make(1, runs=10_000, flaky_tests={7: 0.08}, flaky_boards={3: 0.05})
    with History.open(path) as written:
        written.record(*(finished(each, number) for number, each in enumerate(made)))
    rows = seconds("-c", COUNT, str(path), folder=folder)
    asked = seconds("-m", "roboticks_tasks", "history", folder=folder, ROBOTICKS_HISTORY=str(path))
    print(f"{'adding up 400,000 rows':44}{rows * 1000:8.0f} ms  1 (baseline of the next)")
    print(f"{'  history of 10,000 runs of 40 tests':44}{asked * 1000:8.0f} ms  {asked / rows:.1f}")


def main() -> None:
    """Measure, print."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # it alone adds half to every start
    folder = Path(tempfile.mkdtemp())
    os.environ |= {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder), "ROBOTICKS_BENCH": str(folder / "bench")}
    try:
        run = small(folder)
        plugin(folder, run)
        large(folder / "large")
        history(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
