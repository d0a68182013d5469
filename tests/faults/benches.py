"""Benches to do harm to: a board, a composition that counts aloud, tests that note when each has ended."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.contract.pty_board import running_board
from tests.contract.small_disk import SmallDisk, open_small_disk
from tests.contract.sshd import Sshd, running_sshd
from tests.contract.tcp_proxy import TcpProxy
from tests.e2e.bench import Bench
from tests.e2e.board_profiles import manager, over_serial, over_ssh
from tests.faults.slow_proxy import SlowProxy

KINDS = ("sim", "ssh", "serial")
TESTS = 5
"""How many tests the suite has."""

SUITE = """
[deployment]
path = "deployment"

[tests]
command = "pytest -q -p no:cacheprovider -p roboticks_tasks.pytest_plugin tests"
timeout = 60
"""

SIM = """
backend = "local"

[target]
kind = "local"
"""

COMPOSITION = """
name: CountComposition
modes: [prod]
default_mode: prod
modules:
  - name: counter
    command: [python, counter.py]
    environment: {{COUNTED: "{counted}"}}
"""

COUNTER = """
import itertools, json, os, time
import zmq

bus = zmq.Context.instance().socket(zmq.XPUB)
bus.connect(os.environ["ROBOTICKS_BUS_PUBLISH"])
bus.recv()
named = {key: os.environ["ROBOTICKS_" + key.upper()] for key in ("module", "composition")}
ready = {"sequence": 1, "mode": "prod", "timestamp_us": time.time_ns() // 1000, **named}
bus.send_multipart([b"/roboticks/module/ready", json.dumps(ready).encode()])
with open(os.environ["COUNTED"], "a") as counted:
    for number in itertools.count(1):
        print(f"INFO counted to {number}.", flush=True)
        # Only what has been said is noted, so whatever stands here has to be in the log.
        print(number, time.monotonic_ns(), file=counted, flush=True)
        time.sleep(0.01)
"""

TESTS_THAT_WAIT = """
import time
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_waits(device, number):
    time.sleep(0.06)
"""

CONFTEST = """
def pytest_runtest_logfinish(nodeid):
    with open({ended!r}, "a") as stream:
        print(nodeid, file=stream, flush=True)
"""


class Site(NamedTuple):
    """A bench with one board, and what can be done to it from outside; `run` is where the run's folder will be."""

    kind: str
    bench: Bench
    root: Path
    run: Path
    proxy: SlowProxy | None = None
    disk: SmallDisk | None = None

    @property
    def counted(self) -> Path:
        """What the module has counted so far: number and monotonic nanoseconds in each line."""
        return self.bench.folder / "counted"

    @property
    def ended(self) -> Path:
        """The tests that have ended, one in each line."""
        return self.bench.folder / "ended"

    @property
    def summary(self) -> Path:
        """What the CI system shows of the run."""
        return self.bench.folder / "summary.md"

    @property
    def platform(self) -> Path:
        """The folder of the local platform."""
        return self.bench.folder / ".roboticks" / "platform"


@contextmanager
def open_site(kind: str, folder: Path, *, small_disk: bool = False) -> Iterator[Site]:
    """Lend a bench of a kind in `folder`, whose path should be short; `small_disk`: its runs write to 1 MB."""
    for each in ("runtime", "deployment/CountComposition", "tests", "run"):
        (folder / each).mkdir(parents=True, mode=0o700)
    bench = Bench(folder)
    bench.environment["PATH"] = f"{Path(sys.executable).parent}:{bench.environment['PATH']}"
    bench.environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # what else is installed here takes its time
    bench.environment["GITHUB_STEP_SUMMARY"] = str(folder / "summary.md")
    site = Site(kind, bench, folder / "root", folder / "run")
    _write_suite(site)
    with ExitStack() as held:
        device = manager("simulated", site.root)
        if kind == "sim":
            bench.profile(kind, f"{SIM}{device}{SUITE}")
        elif kind == "ssh":
            sshd = held.enter_context(running_sshd(folder / "sshd"))
            site = site._replace(proxy=held.enter_context(_running_proxy(sshd.port)))
            bench.profile(kind, _through(sshd, site.proxy, device))
        else:
            board = held.enter_context(running_board(folder / "pty", powered=False))
            bench.profile(kind, over_serial(board, device_manager=device, suite=SUITE))
        if small_disk:
            disk = held.enter_context(open_small_disk(site.run, size="1m"))
            site = site._replace(disk=disk, run=disk.folder if disk else site.run)
        try:
            yield site
        finally:
            bench.kill_everything()


def _write_suite(site: Site) -> None:
    folder = site.bench.folder
    composition = folder / "deployment" / "CountComposition"
    (composition / "composition.yaml").write_text(COMPOSITION.format(counted=site.counted))
    (composition / "counter.py").write_text(COUNTER)
    (folder / "tests" / "test_waits.py").write_text(TESTS_THAT_WAIT.format(count=TESTS))
    (folder / "tests" / "conftest.py").write_text(CONFTEST.format(ended=str(site.ended)))


def _through(sshd: Sshd, proxy: TcpProxy | None, device: str) -> str:
    assert proxy is not None
    text = over_ssh(sshd, device_manager=device, suite=SUITE)
    told = text.replace(f"port = {sshd.port}\n", f"port = {proxy.port}\nkeep_alive = 1\nconnect_timeout = 2\n")
    assert told != text
    return told


@contextmanager
def _running_proxy(upstream: int) -> Iterator[SlowProxy]:
    proxy = SlowProxy(upstream)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
