"""A simulated board: power, a boot log, a login, a real shell, all behind a pty that stands for its serial console."""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import os
import pty
import queue
import select
import shutil
import signal
import struct
import subprocess
import termios
import threading
import time
import tty
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from roboticks_tasks.profiles import Profile
from roboticks_tasks.profiles.values import Board, Console, Power
from roboticks_tasks.profiles.values import Target as TargetSpec
from roboticks_tasks.targets import Target
from roboticks_tasks.targets.serial import open_serial

BOOT_LOG = (
    "U-Boot 2024.01 (Jan 08 2024 - 15:37:48 +0000)",
    "DRAM:  512 MiB",
    "Starting kernel ...",
    "[    0.000000] Linux version 6.6.21 (build@host) #1 SMP",
    "[    0.412345] console [ttyS0] enabled",
    "[    1.203112] EXT4-fs (mmcblk0p2): mounted filesystem",
    "Welcome to Board Linux 4.2",
)

POWER = """#!/bin/sh
case $1 in
state) cat '{state}' ;;
on|off) echo "$1" >'{fifo}'; until [ "$(cat '{state}')" = "$1" ]; do sleep 0.02; done ;;
esac
"""

DEADLINE = 10.0

TERMINAL_BUFFER = 4095
"""Bytes that a terminal holds which nobody has read; what comes then is lost."""

GARBLED = bytes(b"\x00\x80\xe0\xf8\xfe\xff\x1c\x86\xf3\x03~x"[byte * 7 % 12] for byte in range(256))
"""What a UART makes of each byte when the other end has another speed."""


@dataclass
class Options:
    """What kind of board it is; times in seconds."""

    user: str = "root"
    password: str | None = None
    shell: Sequence[str] = ("sh", "-i")
    controlling_terminal: bool = True
    boot_log: Sequence[str] = BOOT_LOG
    boot_interval: float = 0.002
    autologin: bool = False
    powered: bool = True
    baud_limit: int | None = None
    overflows: bool = False
    wrong_speed: bool = False
    echoes: bool = False
    without: Sequence[str] = ()
    stays_in_uboot: bool = False
    autoboot_delay: float = 0.0
    firmware: str | None = None
    session_delay: float = 0.05
    heartbeat: float = 0.5
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Damage:
    """Bytes of one direction, counted from when this was ordered, that are dropped or changed."""

    positions: set[int]
    drop: bool
    at: int = 0

    def apply(self, data: bytes) -> bytes:
        start, self.at = self.at, self.at + len(data)
        hit = [position - start for position in self.positions if start <= position < self.at]
        if not hit:
            return data
        changed = bytearray(data)
        for index in sorted(hit, reverse=True):
            if self.drop:
                del changed[index]
            else:
                changed[index] ^= 0x11
        return bytes(changed)


@contextmanager
def running_board(folder: Path, **options: object) -> Iterator[PtyBoard]:
    """Run a board for the block; afterwards none of its processes is left."""
    board = PtyBoard(folder, Options(**options))  # type: ignore[arg-type]  # the options are the dataclass's
    try:
        yield board
    finally:
        board.close()


@contextmanager
def open_board() -> Iterator[Target]:
    """Lend the shell on the console of a board that runs as long."""
    with (
        TemporaryDirectory() as folder,
        running_board(Path(folder)) as board,
        open_serial(profile_of(board)) as target,
    ):
        yield target


def profile_of(board: PtyBoard, *, power: Power | None = None, **target: Any) -> Profile:
    """Return a profile of this board; `target`: settings of its section of that name."""
    console = Console(port=board.port)
    return Profile(
        name="pty",
        target=TargetSpec(kind="serial", **target),
        boards=(Board(id="board-1", console=console, power=power),),
    )


class PtyBoard:
    """A board in a thread. `port` is its console, `power_command` switches it: on, off, state."""

    def __init__(self, folder: Path, options: Options) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.options = options
        self.folder = folder
        self.port = str(folder / "console")
        self.power_command = str(folder / "power")
        self.input = bytearray()
        self.output = bytearray()
        self.lost = 0
        self._given = b""
        self.boots = 0
        self.uboot_stops = 0
        self.terminal = ""
        self._marker = uuid.uuid4().hex
        self._state = folder / "power.state"
        self._fifo_path = folder / "power.fifo"
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._damage: dict[str, list[Damage]] = {"to_board": [], "from_board": []}
        self._out, self._in = bytearray(), bytearray()
        self._allowed = {"out": 0.0, "in": 0.0}
        self._phase = "off"
        self._typed = b""
        self._name = ""
        self._outer = self._outer_slave = self._inner = self._inner_slave = self._pidfd = -1
        self._shell: subprocess.Popen[bytes] | None = None
        self._error: BaseException | None = None
        self._ending = False
        (folder / "home").mkdir(exist_ok=True)
        os.mkfifo(self._fifo_path)
        self._fifo = os.open(self._fifo_path, os.O_RDWR | os.O_NONBLOCK)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK)
        script = Path(self.power_command)
        script.write_text(POWER.format(state=self._state, fifo=self._fifo_path))
        script.chmod(0o755)
        self._path = self._make_path()
        self._plug()
        self._switch(options.powered)
        self._thread = threading.Thread(target=self._serve, name="board")
        self._thread.start()

    # --- what a test does to the board

    @property
    def phase(self) -> str:
        """Return off, boot, name, password, shell, uboot, autoboot or firmware."""
        return self._phase

    @property
    def processes(self) -> list[int]:
        """Return the ids of the processes that run on the board, zombies aside."""
        return [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if self._owns(pid)]  # noqa: PTH208

    def reboot(self) -> None:
        """Kill all that runs on the board and boot it again, as after a watchdog's reset."""
        self._do(self._reset)

    def power(self, state: str) -> None:
        """Switch the power: on or off."""
        self._do(lambda: self._switch(state == "on"))

    def unplug(self) -> None:
        """Pull the console's cable: the port vanishes."""
        self._do(self._unplug)

    def plug(self) -> None:
        """Plug it in again: another port under the same name."""
        self._do(self._plug)

    def print_noise(self, text: str) -> None:
        """Print a message of the kernel, whatever is being printed at that moment."""
        self._do(lambda: self._emit(text.encode()))

    def type_locally(self, text: str) -> None:
        """Have a human type on the console, who sits at another keyboard."""
        self._do(lambda: self._receive(text.encode()))

    def damage(self, direction: str, positions: Sequence[int], *, drop: bool = False) -> None:
        """Damage bytes on the line from now on, counted from 0: direction to_board or from_board."""
        self._do(lambda: self._damage[direction].append(Damage(set(positions), drop)))

    def close(self) -> None:
        """End the board and everything that runs on it."""
        self._ending = True
        self._wake()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "the board hangs"
        self._kill_all()
        self._unplug()
        for fd in (self._fifo, self._wake_read, self._wake_write):
            os.close(fd)
        if self._error is not None:
            raise AssertionError("the simulated board failed") from self._error

    # --- the thread

    def _do(self, order: Callable[[], None]) -> None:
        done = threading.Event()
        self._orders.put(lambda: (order(), done.set())[0])  # type: ignore[func-returns-value]
        self._wake()
        assert done.wait(DEADLINE), f"the board does not obey: {self._error!r}"

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    def _serve(self) -> None:
        try:
            while not self._ending:
                self._turn()
        except BaseException as error:
            self._error = error

    def _turn(self) -> None:
        now = time.monotonic()
        poll = select.poll()
        poll.register(self._fifo, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        waits = [event[0] - now for event in self._events[:1]]
        if self._outer >= 0:
            flags = select.POLLIN if len(self._in) < 65536 else 0
            flags |= self._wanted("out", self._out, now, waits)
            poll.register(self._outer, flags)
        if self._inner >= 0:
            flags = select.POLLIN if len(self._out) < 65536 else 0
            flags |= self._wanted("in", self._in, now, waits)
            poll.register(self._inner, flags)
            poll.register(self._pidfd, select.POLLIN)
        ready = dict(poll.poll(max(0.0, min(waits)) * 1000 + 0.5 if waits else None))
        self._obey(ready)
        if ready.get(self._outer, 0) & select.POLLIN:
            self._receive(self._read(self._outer))
        if ready.get(self._inner, 0) & select.POLLIN:
            self._emit(self._read(self._inner))
        if self._pidfd in ready and not ready.get(self._inner, 0) & select.POLLIN:
            self._end_shell()
            self._ask_name()
        while self._events and self._events[0][0] <= time.monotonic():
            heapq.heappop(self._events)[2]()
        self._flush("out", self._out, self._outer)
        self._flush("in", self._in, self._inner)

    def _obey(self, ready: dict[int, int]) -> None:
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        while not self._orders.empty():
            self._orders.get()()
        if self._fifo in ready:
            for word in os.read(self._fifo, 4096).decode().split():
                self._switch(word == "on")

    def _wanted(self, way: str, buffer: bytearray, now: float, waits: list[float]) -> int:
        if not buffer:
            return 0
        if self._allowed[way] > now:
            waits.append(self._allowed[way] - now)
            return 0
        return select.POLLOUT

    def _flush(self, way: str, buffer: bytearray, fd: int) -> None:
        now = time.monotonic()
        if not buffer or fd < 0 or self._allowed[way] > now:
            return
        speed = self.options.baud_limit / 10 if self.options.baud_limit else None
        # At most what the line carries in 5 ms goes at once.
        part = bytes(buffer[: max(1, int(speed / 200))] if speed else buffer[:65536])
        room = self._room() if way == "in" and self.options.overflows else len(part)
        with suppress(BlockingIOError, OSError):
            sent = os.write(fd, part[:room])
            if way == "in":
                self._given = (self._given + part[:sent])[-TERMINAL_BUFFER:]
            if room < len(part):
                self.lost += len(part) - sent
                sent = len(part)
            del buffer[:sent]
            if speed:
                self._allowed[way] = now + sent / speed

    def _room(self) -> int:
        """Return how many bytes the board's terminal takes until its buffer is full."""
        lines: int = struct.unpack("i", fcntl.ioctl(self._inner_slave, termios.FIONREAD, b"0000"))[0]
        return max(0, TERMINAL_BUFFER - lines - len(self._given.rpartition(b"\n")[2]))

    @staticmethod
    def _read(fd: int) -> bytes:
        try:
            return os.read(fd, 65536)
        except (BlockingIOError, OSError):
            return b""

    def _at(self, delay: float, event: Callable[[], None]) -> None:
        boot = self.boots

        def happen() -> None:
            if self.boots == boot and self._phase != "off":
                event()

        heapq.heappush(self._events, (time.monotonic() + delay, next(self._order), happen))

    # --- the cable

    def _plug(self) -> None:
        self._outer, self._outer_slave = pty.openpty()
        tty.setraw(self._outer_slave)
        os.set_blocking(self._outer, False)
        link = Path(self.port)
        link.unlink(missing_ok=True)
        link.symlink_to(os.ttyname(self._outer_slave))

    def _unplug(self) -> None:
        Path(self.port).unlink(missing_ok=True)
        for fd in {self._outer, self._outer_slave} - {-1}:
            os.close(fd)
        self._outer = self._outer_slave = -1
        self._out.clear()

    def _emit(self, data: bytes) -> None:
        if self.options.wrong_speed:
            data = data.translate(GARBLED)
        self.output += data[: max(0, 1_000_000 - len(self.output))]
        for damage in self._damage["from_board"]:
            data = damage.apply(data)
        if self._outer >= 0:
            self._out += data

    def _print(self, text: str) -> None:
        self._emit(text.replace("\n", "\r\n").encode())

    # --- power and boot

    def _switch(self, on: bool) -> None:
        if on and self._phase == "off":
            self._boot()
        elif not on:
            self._kill_all()
            self._phase = "off"
        self._state.write_text("on\n" if on else "off\n")

    def _reset(self) -> None:
        self._kill_all()
        self._boot()

    def _boot(self) -> None:
        self.boots += 1
        self._phase, self._typed = "boot", b""
        self._in.clear()
        delay = 0.0
        for number, line in enumerate(self.options.boot_log):
            delay += self.options.boot_interval
            self._at(delay, lambda line=line: self._print(f"{line}\n"))  # type: ignore[misc]
            if number == 0 and self.options.autoboot_delay:
                self._at(delay, self._count_down)
                delay += self.options.autoboot_delay
        self._at(delay + self.options.boot_interval, self._booted)

    def _count_down(self) -> None:
        self._phase = "autoboot"
        self._print("Hit any key to stop autoboot:  1 ")
        self._at(self.options.autoboot_delay * 0.9, self._continue_boot)

    def _continue_boot(self) -> None:
        if self._phase == "autoboot":
            self._phase = "boot"
            self._print("\n")

    def _booted(self) -> None:
        if self._phase == "uboot":
            return
        if self.options.firmware is not None:
            self._phase = "firmware"
            self._print(f"Registered with DSN: {self.options.firmware}\n")
            self._at(self.options.session_delay, lambda: self._print(f"Session created: {uuid.uuid4()}\n"))
            self._beat(0)
        elif self.options.stays_in_uboot:
            self._stop_in_uboot()
        elif self.options.autologin:
            self._start_shell()
        else:
            self._ask_name()

    def _beat(self, count: int) -> None:
        def beat() -> None:
            self._print(f"heartbeat {count}\n")
            self._beat(count + 1)

        self._at(self.options.heartbeat, beat)

    def _stop_in_uboot(self) -> None:
        self._phase, self._typed = "uboot", b""
        self.uboot_stops += 1
        self._print("\n=> ")

    # --- what comes from the other end

    def _receive(self, data: bytes) -> None:
        if self.options.wrong_speed:
            data = data.translate(GARBLED)
        for damage in self._damage["to_board"]:
            data = damage.apply(data)
        self.input += data[: max(0, 1_000_000 - len(self.input))]
        if self.options.echoes:
            self._emit(data)
        if self._phase == "shell":
            self._in += data
            return
        if self._phase == "autoboot":
            self._stop_in_uboot()
            return
        for byte in data.replace(b"\r", b"\n"):
            self._take_key(bytes([byte]))

    def _take_key(self, key: bytes) -> None:
        if self._phase not in {"name", "password", "uboot"}:
            if self._phase == "shell":
                self._in += key
            return
        if self._phase != "password":
            self._print(key.decode("latin-1"))
        if key in b"\x15\x03":
            self._typed = b""
        elif key != b"\n":
            self._typed += key
        else:
            line, self._typed = self._typed.decode("utf-8", "replace"), b""
            self._take_line(line)

    def _take_line(self, line: str) -> None:
        if self._phase == "uboot":
            words = line.split()
            if words == ["boot"]:
                self._reset()
                return
            self._print((f"Unknown command '{words[0]}' - try 'help'\n" if words else "") + "=> ")
        elif self._phase == "name":
            self._name = line
            if not line:
                self._ask_name()
            elif self.options.password is None and line == self.options.user:
                self._start_shell()
            else:
                self._phase = "password"
                self._print("Password: ")
        elif (self._name, line) == (self.options.user, self.options.password):
            self._print("\nLast login: Sun Nov 22 10:00:00 UTC 2026 on ttyS0\n")
            self._start_shell()
        else:
            self._print("\nLogin incorrect\n")
            self._ask_name()

    def _ask_name(self) -> None:
        self._phase = "name"
        self._print("\nboard login: ")

    # --- the shell

    def _start_shell(self) -> None:
        self._inner, self._inner_slave = pty.openpty()
        os.set_blocking(self._inner, False)
        self.terminal = os.ttyname(self._inner_slave)
        environment = {
            "PATH": self._path,
            "HOME": str(self.folder / "home"),
            "TERM": "vt100",
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
            "PTY_BOARD": self._marker,
            **self.options.environment,
        }
        end = self._inner_slave
        # The first terminal that the leader of a session opens is its controlling one.
        opens = ["sh", "-c", 'exec 0<>"$0" 1>&0 2>&0; exec "$@"', self.terminal]
        argv = [*(opens if self.options.controlling_terminal else []), *self.options.shell]
        self._shell = subprocess.Popen(
            argv,
            env=environment,
            cwd=environment["HOME"],
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
        )
        self._pidfd = os.pidfd_open(self._shell.pid)
        self._in.clear()
        self._phase = "shell"

    def _end_shell(self) -> None:
        if self._shell is None:
            return
        self._shell.kill()
        self._shell.wait()
        self._shell = None
        for fd in (self._inner, self._inner_slave, self._pidfd):
            os.close(fd)
        self._inner = self._inner_slave = self._pidfd = -1

    def _kill_all(self) -> None:
        while pids := self.processes:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._end_shell()
        self._out.clear()

    def _owns(self, pid: int) -> bool:
        try:
            if f"PTY_BOARD={self._marker}".encode() not in Path(f"/proc/{pid}/environ").read_bytes():
                return False
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
        except OSError:
            return False

    def _make_path(self) -> str:
        """Return the board's PATH: this machine's, without the programs that it does not have."""
        path = os.environ.get("PATH", os.defpath)
        if not self.options.without:
            return path
        tools = self.folder / "bin"
        tools.mkdir()
        for folder in filter(os.path.isdir, path.split(os.pathsep)):
            for name in os.listdir(folder):  # noqa: PTH208 - thousands of them
                if name not in self.options.without:
                    with contextlib.suppress(FileExistsError):
                        (tools / name).symlink_to(shutil.which(name, path=folder) or f"{folder}/{name}")
        return str(tools)
