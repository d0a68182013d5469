"""A folder on a target and the programs that run detached in it, for tests that look behind the target."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from roboticks_tasks.targets import Target
from roboticks_tasks.targets.detached import Detached, spawn_detached
from roboticks_tasks.targets.watch import START, Look, Position, watch
from tests.conditions import until


@contextmanager
def running_robot(target: Target, folder: Path) -> Iterator[Robot]:
    """Lend a folder on the target; what was started in it is killed afterwards, with its group."""
    robot = Robot(target, folder)
    os.mkfifo(folder / "go")
    yield robot
    for process in robot.started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


class Robot:
    """A folder on the target, and a program that runs detached in it."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target = target
        self.folder = folder
        self.pid_file, self.log, self.state = (str(folder / name) for name in ("run/a.pid", "log/a.log", "a.json"))
        self.started: list[Detached] = []

    def start(self, script: str, **environment: str) -> Detached:
        """Run a shell script detached."""
        return self.spawn(["sh", "-c", script], **environment)

    def spawn(self, argv: Sequence[str], **environment: str) -> Detached:
        process = spawn_detached(
            self.target,
            argv,
            environment=environment,
            log=self.log,
            pid_file=self.pid_file,
            directory=str(self.folder),
        )
        self.started.append(process)
        return process

    def look(self, process: Detached, *, known: str = "", position: Position = START, patience: float = 10.0) -> Look:
        """Watch it."""
        return watch(
            self.target,
            process,
            state_path=self.state,
            log_path=self.log,
            known_state=known,
            position=position,
            patience=patience,
        )

    def tell(self) -> None:
        """Let a program go on that reads from the pipe `go`."""
        end = until(self._writing_end, "the program reads from its pipe")
        os.write(end, b"go\n")
        os.close(end)

    def _writing_end(self) -> int | None:
        try:
            return os.open(self.folder / "go", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None

    def await_file(self, name: str) -> str:
        """Wait for a file that the program writes, and return its text."""
        path = self.folder / name
        until(lambda: path.exists() and path.read_text().endswith("\n"), f"{name} is written")
        return path.read_text()


def runs(pid: int) -> bool:
    """Tell whether a process runs, zombies apart."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False
