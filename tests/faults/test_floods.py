"""Devices and tests that say far too much: the run goes on in bounded memory, and what is kept can be opened."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from roboticks_tasks import bounded
from tests.e2e.bench import DEADLINE, Bench
from tests.e2e.conftest import bench

__all__ = ["bench"]

ROOT = Path(__file__).resolve().parents[2]

MOST_MEMORY = 150_000_000
"""Bytes that no process of a run may ever have, the tests' own aside; without a flood it is about a third of that."""

FLOOD, LONG_LINE = 300_000_000, 10_000_000

# An interpreter that floods before it becomes the device manager.
FLOODING = """#!/bin/sh
case $* in *'-m roboticks_tasks.sim.device_manager'*)
    yes "what a device says when a sensor is loose, again and again" | head -c {flood}
    head -c {line} /dev/zero | tr '\\0' x; echo
    head -c 300000 /dev/urandom; echo
esac
exec {python} "$@"
"""

# A process of its own, because what one has had in memory counts for those that it starts.
MEASURED = """
import resource, subprocess, sys
with open(sys.argv[1], "wb") as out, open(sys.argv[2], "wb") as err:
    code = subprocess.call(sys.argv[3:], stdout=out, stderr=err)
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


class Ended(NamedTuple):
    """A run that ended, and the most memory that one of its processes had."""

    code: int
    out: bytes
    err: str
    memory: int


def hil_test(bench: Bench, *words: str) -> Ended:
    """Run `hil-test`; its output goes to files, because a pipe's other end would be this process's memory."""
    out, err = bench.folder / "stdout", bench.folder / "stderr"
    argv = [sys.executable, "-m", "roboticks_tasks", "hil-test", *words]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", MEASURED, str(out), str(err), *argv],
        cwd=bench.folder,
        env=bench.environment,
        capture_output=True,
        timeout=DEADLINE,
        check=True,
    )
    code, memory = map(int, done.stdout.split())
    text = err.read_text()
    assert "Traceback" not in text, text
    with out.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - 10_000))
        return Ended(code, stream.read(), text, memory * 1024)


@pytest.fixture
def flooding(bench: Bench) -> Bench:
    """A bench whose device manager floods before it says anything else."""
    python = bench.folder / "flooding-python"
    python.write_text(FLOODING.format(flood=FLOOD, line=LONG_LINE, python=sys.executable))
    python.chmod(0o755)
    text = (ROOT / "hardware_profiles" / "sim.toml").read_text()
    text = text.replace('kind = "simulated"', f'kind = "simulated"\ninterpreter = "{python}"')
    bench.profile("sim", text)
    return bench


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def test_a_device_that_floods_before_it_registers_is_followed_to_its_dsn(flooding: Bench) -> None:
    done = hil_test(flooding, "--", "-k", "registered")
    assert done.code == 0, done.err[-3000:]
    assert done.memory < MOST_MEMORY
    folder = flooding.latest
    log = (folder / "device-manager.log").read_bytes()
    assert len(log) < bounded.LIMIT + 4096
    assert re.search(rb"\n--- \d{9} bytes left out ---\n", log)
    assert b"Registered with DSN" in log[-100_000:]
    assert sizes(folder)["test-run.log"] < 3_000_000
    assert sizes(folder)["events.jsonl"] < 100_000
    (folder / "test-run.log").read_text(encoding="utf-8")
    assert max(map(len, done.err.splitlines())) < bounded.WIDEST + 200
    assert re.search(r"\(\d+ lines that came too fast are not shown\)", done.err)
    assert "Registered with DSN" in done.err


def test_tests_that_flood_are_shown_whole_and_their_log_keeps_both_ends(bench: Bench) -> None:
    (bench.folder / "test_prints.py").write_text(
        "import subprocess\n"
        "def test_prints(capfd):\n"
        "    with capfd.disabled():\n"
        "        subprocess.run('echo begin; yes flood | head -c 199999998; echo end', shell=True)\n"
    )
    done = hil_test(bench, "--test-command", "pytest test_prints.py")
    assert done.code == 0, done.err[-3000:]
    assert done.memory < MOST_MEMORY
    assert (bench.folder / "stdout").stat().st_size > 199_999_998
    log = (bench.latest / "pytest.log").read_bytes()
    assert len(log) < bounded.LIMIT + 4096
    assert b"begin\nflood\n" in log[:10_000]
    assert b"flood\nend\n" in log[-10_000:]
    assert b"1 passed" in log[-10_000:]
    found = re.search(rb"\n--- (\d+) bytes left out ---\n", log)
    assert found
    shown = (bench.folder / "stdout").stat().st_size - len(done.out[done.out.rindex(b"passed: ") :])
    assert len(log) - len(found.group()) + int(found.group(1)) == shown
    assert [name for name in sizes(bench.latest) if name.startswith(".")] == []
    assert next(ElementTree.parse(bench.latest / "pytest.xml").iter("testcase")).get("name") == "test_prints"
