"""Running compositions: all modules up and ready, or none."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from roboticks_tasks.sim.device_manager import deployment, journal
from roboticks_tasks.sim.device_manager.deployment import Composition, CompositionError, ModuleSpec
from roboticks_tasks.sim.device_manager.guarding import Guard
from roboticks_tasks.sim.device_manager.modules import Module

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from roboticks_tasks.sim.device_manager.bus import Bus
    from roboticks_tasks.sim.device_manager.journal import Journal
    from roboticks_tasks.sim.device_manager.state import State

READY_TIMEOUT = 20.0
GRACE = 2.0
"""Seconds between asking a module to end and killing it."""

SECRET_NAMES = ("KEY", "SECRET", "TOKEN")
"""How our variables with secrets end. They are not for modules: what those print is sent to the platform and kept."""


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the variables of Roboticks that hold secrets."""
    ours = ("ROBOTICKS_", "RBTK_")
    return {key: value for key, value in environ.items() if not (key.startswith(ours) and key.endswith(SECRET_NAMES))}


class Running:
    """One composition that was started; `missing` are the modules that have not said they are ready."""

    def __init__(self, composition: Composition, mode: str) -> None:
        self.composition, self.mode = composition, mode
        self.status = "starting"
        self.error: str | None = None
        self.modules: list[Module] = []
        self.missing = {module.name for module in composition.modules}
        self.settled = asyncio.Event()

    def described(self) -> dict[str, Any]:
        """Return its entry in the state file."""
        return {"name": self.composition.name, "mode": self.mode, "status": self.status, "error": self.error}


class Compositions:
    """All compositions of this device manager, by name, in the order they were first started."""

    def __init__(self, root: Path, state: State, log: Journal, *, environ: Mapping[str, str]) -> None:
        self._deployment = root / "deployment"
        self._state, self._journal = state, log
        self._environment = without_secrets(environ)
        self.guard = Guard(self._environment, log)
        self._running: dict[str, Running] = {}
        self._changing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._closed = False
        self.bus: asyncio.Future[Bus] = asyncio.get_running_loop().create_future()

    def known(self) -> dict[str, Any]:
        """Return what is deployed: `compositions` with their modes and, if any file is wrong, `errors`."""
        good, bad = [], []
        for name in deployment.names(self._deployment):
            try:
                composition = deployment.read(self._deployment / name)
            except CompositionError as error:
                bad.append(str(error))
            else:
                entry = {"name": name, "modes": list(composition.modes), "default_mode": composition.default_mode}
                good.append(entry)
        return {"compositions": good, **({"errors": bad} if bad else {})}

    async def start(self, name: str, mode: str | None = None, *, timeout: float = READY_TIMEOUT) -> dict[str, Any]:
        """Start a composition and return its entry once all its modules are ready.

        One that is starting or running in this mode is only waited for: who loses patience with it leaves it alone.
        Errors: CompositionError when it is unknown, runs in another mode, when a module ended, or when it is not ready
        within `timeout` seconds; then it has failed if it was this call that started it.
        """
        composition = deployment.find(self._deployment, name)
        mode = deployment.mode_of(composition, mode)
        running, is_mine = None, False
        try:
            async with asyncio.timeout(timeout):
                bus = await asyncio.shield(self.bus)
                running, is_mine = await self._found_or_spawned(composition, mode, bus=bus)
                await running.settled.wait()
        except TimeoutError:
            if running is None:
                why = "what ran before has not ended" if self.bus.done() else "the bus is not open"
                raise CompositionError(f"composition {name} is not started within {timeout:g} s: {why}") from None
            reason = f"not ready within {timeout:g} s: {', '.join(sorted(running.missing))}"
            if not is_mine:
                raise CompositionError(f"composition {name} is {reason}; somebody else has started it") from None
            if running.status == "starting":
                self._fail(running, reason)
        if running.error is not None or running.status != "running":
            raise CompositionError(f"composition {name} {running.status}: {running.error or 'somebody stopped it'}")
        return running.described()

    async def stop(self, name: str, *, grace: float = GRACE) -> dict[str, Any]:
        """End a composition's modules and return its entry; CompositionError when it was never started."""
        if name not in self._running:
            started = ", ".join(self._running) or "none"
            raise CompositionError(f"composition {name!r} was not started (started: {started})")
        async with self._changing[name]:
            running = self._running[name]
            await self._end(running, grace)
        return running.described()

    async def stop_all(self, grace: float) -> None:
        """End everything, side by side, and then the guard; from now on nothing can be started."""
        self._closed = True
        await asyncio.gather(*(self._end(running, grace) for running in self._running.values()))
        self.guard.close()

    async def _found_or_spawned(self, composition: Composition, mode: str, *, bus: Bus) -> tuple[Running, bool]:
        """Return the composition that is starting or running, and whether it was started here."""
        name = composition.name
        async with self._changing[name]:
            running = self._running.get(name)
            if running is not None and running.status in ("starting", "running"):
                if running.mode != mode:
                    raise CompositionError(f"composition {name} runs in mode {running.mode}: stop it first")
                return running, False
            for module in running.modules if running is not None else ():
                await module.ended.wait()  # two copies would take each other's devices and ports
            if self._closed:
                raise CompositionError(f"composition {name} is not started: the device manager is stopping")
            running = self._running[name] = Running(composition, mode)
            self._spawn(running, bus)
            return running, True

    async def _end(self, running: Running, grace: float) -> None:
        was_up = running.status in ("starting", "running")
        if was_up:
            running.status = "stopped"
        await asyncio.gather(*(module.stop(grace) for module in running.modules))
        if was_up:
            self._journal.info("compositions", f"Composition {running.composition.name} stopped")
        running.settled.set()
        self._publish()

    def on_ready(self, message: dict[str, Any]) -> None:
        """Take a module's word that it is ready."""
        running = self._running.get(str(message.get("composition")))
        if running is None or running.status != "starting":
            return
        running.missing.discard(str(message.get("module")))
        if not running.missing:
            running.status = "running"
            self._journal.info("compositions", f"Composition {running.composition.name} running (mode {running.mode})")
            self._publish()
            running.settled.set()

    def _spawn(self, running: Running, bus: Bus) -> None:
        self._publish()
        for spec in running.composition.modules:
            try:
                module = Module(
                    spec.name, spec.command, folder=running.composition.folder,
                    environment=self._module_environment(running, spec, bus), guard=self.guard,
                    on_line=self._on_line, on_end=lambda ended: self._on_end(running, ended),
                )  # fmt: skip
            except (OSError, ValueError) as error:  # ValueError: a text that no process can be given
                self._fail(running, f"{spec.name} cannot be started: {error}")
                return
            running.modules.append(module)

    def _module_environment(self, running: Running, spec: ModuleSpec, bus: Bus) -> dict[str, str]:
        return {
            "PYTHONUNBUFFERED": "1",  # last words must come out
            **self._environment,
            **running.composition.modes[running.mode],
            **spec.environment,
            "ROBOTICKS_MODULE": spec.name,
            "ROBOTICKS_COMPOSITION": running.composition.name,
            "ROBOTICKS_COMPOSITION_MODE": running.mode,
            "ROBOTICKS_BUS_PUBLISH": bus.publish,
            "ROBOTICKS_BUS_SUBSCRIBE": bus.subscribe,
        }

    def _on_line(self, module: str, line: str) -> None:
        level, text = journal.split_level(line)
        self._journal.write(level, module, text)

    def _on_end(self, running: Running, module: Module) -> None:
        if not module.stopping and running.status in ("starting", "running"):
            self._fail(running, module.how_it_ended)

    def _fail(self, running: Running, reason: str) -> None:
        """Mark a composition as failed and end its other modules: half a composition helps nobody."""
        running.status, running.error = "failed", reason
        self._journal.error("compositions", f"Composition {running.composition.name} failed: {reason}")
        self._publish()
        running.settled.set()
        for module in running.modules:
            module.end_soon(GRACE)

    def _publish(self) -> None:
        self._state.update(compositions=[running.described() for running in self._running.values()])
