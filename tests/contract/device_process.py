"""A simulated device manager as a process, in a root folder of its own, for tests that watch it from outside."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import zmq

from roboticks_tasks.sim.device_manager import install
from tests.conditions import until
from tests.contract.platform_process import Platform

T = TypeVar("T")
DEPLOYMENT = Path(__file__).parents[2] / "roboticks_tasks" / "sim" / "hello_world" / "deployment"
DEADLINE = 10.0


@dataclass
class Device:
    """One root folder and the device managers that run in it."""

    root: Path
    url: str
    secret: str
    environment: dict[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        # The interval is longer than any test: what the platform knows was sent because it had changed.
        self.configure(bus_port=0, heartbeat_interval=600)
        self.program = install(self.root)

    def configure(self, **values: object) -> None:
        """Write device.yaml (JSON is YAML)."""
        (self.root / "device.yaml").write_text(json.dumps(values))

    def deploy(self) -> None:
        """Put the example robot's compositions into the root."""
        shutil.copytree(DEPLOYMENT, self.root / "deployment", ignore=shutil.ignore_patterns("__pycache__"))

    def write_composition(self, name: str, program: str, *, modules: tuple[str, ...] = ("only",)) -> None:
        """Deploy a composition whose modules all run the Python text `program`."""
        folder = self.root / "deployment" / name
        folder.mkdir(parents=True)
        (folder / "program.py").write_text(program)
        entries = [{"name": module, "command": ["python", "program.py"]} for module in modules]
        (folder / "composition.yaml").write_text(json.dumps({"modules": entries}))

    @property
    def environ(self) -> dict[str, str]:
        """Return the environment of the device manager."""
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("ROBOTICKS_")},
            "ROBOTICKS_ROOT": str(self.root),
            "ROBOTICKS_API_URL": self.url,
            "ROBOTICKS_PROJECT_SECRET": self.secret,
            "TEST_DEVICE": "true",
            **self.environment,
        }

    def start(self, *, fault: str = "", wait_for: str | None = "online") -> subprocess.Popen[bytes]:
        """Start it and, with `wait_for`, wait until the state has this phase."""
        with (self.root / "stderr.log").open("ab") as stderr:
            process = subprocess.Popen(
                [self.program],
                env={**self.environ, "ROBOTICKS_SIM_FAULT": fault},
                stdin=subprocess.DEVNULL,
                stderr=stderr,
            )
        self.processes.append(process)
        if wait_for is not None:
            self.until_phase(wait_for, process)
        return process

    def start_with_bus(self) -> subprocess.Popen[bytes]:
        """Start it and wait until it is online and its bus is open."""
        process = self.start()
        until(lambda: self.state()["bus"], "the bus is open")
        return process

    def until_phase(self, phase: str, process: subprocess.Popen[bytes]) -> None:
        """Wait for a phase of this very process; fails at once when the process has ended."""

        def reached() -> bool:
            state = self.state()
            if (state.get("pid"), state.get("phase")) == (process.pid, phase):
                return True
            assert process.poll() is None, f"ended with {process.returncode}: {self.log()}"
            return False

        until(reached, f"phase {phase}")

    def state(self) -> dict[str, Any]:
        """Return the state file's content, {} when there is none."""
        try:
            document: dict[str, Any] = json.loads((self.root / "state" / "device-manager.json").read_text())
        except FileNotFoundError:
            return {}
        return document

    def log(self) -> str:
        """Return all that was logged."""
        path = self.root / "log" / "device-manager.log"
        return path.read_text() if path.exists() else ""

    def ctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `ctl` command."""
        command = [str(self.program), "ctl", *arguments]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=30)

    def ask(self, *arguments: str) -> dict[str, Any]:
        """Run a `ctl` command that must succeed and return its answer."""
        completed = self.ctl(*arguments)
        assert completed.returncode == 0, completed.stderr
        assert completed.stdout.count("\n") == 1
        answer: dict[str, Any] = json.loads(completed.stdout)
        return answer

    def module_processes(self) -> list[int]:
        """Return the ids of the processes that run as modules below this root, zombies aside."""
        found = []
        wanted = b"ROBOTICKS_ROOT=" + os.fsencode(self.root)
        for entry in Path("/proc").iterdir():
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if wanted in variables and any(variable.startswith(b"ROBOTICKS_MODULE=") for variable in variables):
                found.append(int(entry.name))
        return found

    def stop_all(self) -> None:
        """Kill what is still running; its guard takes the modules along."""
        for process in self.processes:
            process.kill()
            process.wait()
        until(lambda: not self.module_processes(), "the modules are gone")


@contextlib.contextmanager
def device_of(platform: Platform, root: Path) -> Iterator[Device]:
    """Give a device of this platform to the block and leave none of its processes behind."""
    device = Device(root, platform.ready["url"], platform.secret)
    try:
        yield device
    finally:
        device.stop_all()


def stop(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Send SIGTERM and return the exit code and the seconds it took."""
    started = time.monotonic()
    process.terminate()
    return process.wait(DEADLINE), time.monotonic() - started


class Ear:
    """A subscriber of a device's bus."""

    def __init__(self, address: str, topic: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.subscribe(topic)
        self._socket.connect(address)

    def hear(self, count: int) -> list[dict[str, Any]]:
        """Return the next messages, in order."""
        messages: list[dict[str, Any]] = []
        for _ in range(count):
            assert self._socket.poll(int(DEADLINE * 1000)), f"only {len(messages)} of {count} messages came"
            messages.append(json.loads(self._socket.recv_multipart()[1]))
        return messages

    def close(self) -> None:
        """Leave the bus."""
        self._context.destroy(linger=0)
