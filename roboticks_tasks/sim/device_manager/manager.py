"""The device manager: one event loop, its parts, and how it begins and ends. Read this first.

register -> connect -> open the bus -> (autostart) -> answer ctl, commands and the bus until SIGTERM -> stop
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import traceback
from typing import TYPE_CHECKING, Any

from roboticks_tasks.sim import topics
from roboticks_tasks.sim.device_manager import (
    autostart,
    control,
    deployment,
    endings,
    farewell,
    orphans,
    registration,
    state,
)
from roboticks_tasks.sim.device_manager.commands import Commands
from roboticks_tasks.sim.device_manager.compositions import Compositions
from roboticks_tasks.sim.device_manager.credentials import Credentials
from roboticks_tasks.sim.device_manager.deployment import CompositionError
from roboticks_tasks.sim.device_manager.endings import Ending
from roboticks_tasks.sim.device_manager.journal import Journal
from roboticks_tasks.sim.device_manager.link import Link
from roboticks_tasks.sim.device_manager.offload import offload
from roboticks_tasks.sim.device_manager.sessions import SessionRefusedError, Sessions
from roboticks_tasks.sim.device_manager.settings import Settings
from roboticks_tasks.sim.device_manager.state import State
from roboticks_tasks.sim.device_manager.uplink import Heartbeat, LogShipper

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Mapping
    from types import ModuleType

    from roboticks_tasks.sim.device_manager.registration import Registration

MODULE_GRACE = 0.15
SESSION_GRACE = 1.0
LOG_GRACE = 0.5
"""Seconds that a stop gives its parts."""

REAP_AGAIN = 0.05
BUS_WAITS_FOR_LINK = 0.5
"""Seconds for which the bus leaves the processor to the connection: importing ZeroMQ takes as long as connecting."""


class DeviceManager:
    """The parts, wired together."""

    def __init__(self, chosen: Settings, journal: Journal, status: State, *, environ: Mapping[str, str]) -> None:
        self._settings, self._journal, self._state, self._environ = chosen, journal, status, environ
        self._credentials = Credentials(folder=chosen.root / "etc" / "roboticks")
        self._own_children: frozenset[int] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def main(self) -> int:
        """Run until told to stop or until something is broken for good; return the exit code."""
        loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = loop.create_future()
        loop.set_exception_handler(self._on_loop_error)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            self._build()
            await self._control.open()
            self._in_background(self._work())
            await self._over
            await self._stop()
        except Ending as ending:
            await self._abandon(ending)
            return ending.exit_code
        except Exception as error:
            for line in "".join(traceback.format_exception(error)).splitlines():
                self._journal.write("CRITICAL", "device-manager", line)
            await self._abandon(Ending(f"a bug: {error!r}", code="internal-error", exit_code=endings.BUG))
            return endings.BUG
        return 0

    def _build(self) -> None:
        root, journal = self._settings.root, self._journal
        self._link = Link(
            self._credentials,
            journal,
            keepalive=self._settings.keepalive,
            on_message=self._on_message,
            on_status=self._on_link,
        )
        self._online_once = asyncio.Event()
        self._heartbeat = Heartbeat(self._settings, self._state, self._link)
        self._shipper = LogShipper(journal, self._link)
        self._sessions = Sessions(
            root, self._state, journal, link=self._link, dropped="no-session" in self._settings.faults
        )
        self._sessions.on_unknown_device = self._on_unknown_device
        self._commands = Commands(self._sessions, journal, self._in_background)
        self._compositions = Compositions(root, self._state, journal, environ=self._environ)
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._on_child_end)
        self._control = control.Control(root / "run", journal, self._answer)

    async def _work(self) -> None:
        """Register, then keep everything going."""
        if "dies-at-start" in self._settings.faults:
            self._die("dies-at-start", endings.DIES_AT_START)
        self._state.update(phase="registering")
        self._journal.info("registration", f"Registering with {self._settings.api_url}")
        await self._registration_faults()
        if not self._settings.project_secret:
            sentence = "no project secret: set ROBOTICKS_PROJECT_SECRET or project_secret in device.yaml"
            raise Ending(sentence, code="project-secret-missing", exit_code=endings.REFUSED)
        registered = await registration.obtain(self._settings, self._credentials, self._journal, status=self._state)
        self._on_registered(registered)
        if "dies-later" in self._settings.faults:
            pause = self._settings.faults["dies-later"]
            asyncio.get_running_loop().call_later(pause, self._die, "dies-later", endings.DIES_LATER)
        self._sessions.recover()
        for part in (self._link.run(registered, self._renew), self._heartbeat.run(), self._shipper.run()):
            self._in_background(part)
        await self._open_bus()
        await self._start_by_itself()

    async def _registration_faults(self) -> None:
        if "never-registers" in self._settings.faults:
            self._journal.warning("faults", "simulated fault: never-registers")
            await asyncio.Event().wait()
        if "registers-late" in self._settings.faults:
            self._journal.warning("faults", "simulated fault: registers-late")
            await asyncio.sleep(self._settings.faults["registers-late"])

    async def _open_bus(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BUS_WAITS_FOR_LINK):
                await self._online_once.wait()
        module, self._own_children = await offload(_import_bus)
        listeners = {
            module.READY: self._compositions.on_ready,
            module.SESSION_CONTROL: self._commands.on_session_control,
        }
        bus = module.Bus(self._settings.bus_port, listeners)
        self._state.update(bus=bus.subscribe)
        self._compositions.bus.set_result(bus)
        self._journal.info("bus", f"Bus at {bus.subscribe}, modules publish to {bus.publish}")

    async def _start_by_itself(self) -> None:
        if self._settings.auto_session:
            self._in_background(self._attempt(self._sessions.start()))
        try:
            names = autostart.chosen(self._settings, deployment.names(self._settings.root / "deployment"))
        except CompositionError as error:
            self._journal.error("compositions", str(error))
            return
        for name in names:
            start = self._compositions.start(name, self._settings.composition_mode)
            self._in_background(self._attempt(start))

    async def _renew(self, forget: bool) -> Registration:
        if forget:
            self._journal.warning("registration", "the broker refuses this device's certificate: registering again")
            self._credentials.forget()
        registered = await registration.obtain(self._settings, self._credentials, self._journal, status=self._state)
        if registered.dsn != self._link.dsn or not registered.from_cache:
            self._on_registered(registered)
        return registered

    def _on_unknown_device(self) -> None:
        self._journal.warning("registration", "the platform does not know this device any more: registering again")
        self._credentials.forget()
        self._link.drop("the platform does not know this device")

    def _on_registered(self, registered: Registration) -> None:
        self._link.dsn = registered.dsn
        how = "from the cache" if registered.from_cache else "new certificate"
        self._journal.info("registration", f"Registered with DSN: {registered.dsn}")
        self._journal.write("DEBUG", "registration", f"{how}; broker at {registered.host}:{registered.port}")
        if registered.clock_words:
            self._journal.warning("registration", registered.clock_words)
        if not self._over.done():
            self._state.update(phase="registered", dsn=registered.dsn, error=None)

    def _on_link(self, online: bool, reason: str) -> None:
        if self._over.done():
            return  # the phase is that of the end now
        if online:
            self._journal.info("link", "Online")
            self._state.update(phase="online", error=None)
            self._online_once.set()
            self._heartbeat.changed.set()
            return
        problem = state.error("broker-unreachable", reason)
        if problem != self._state.document["error"]:
            self._journal.warning("link", f"not online: {reason}; trying again")
        self._state.update(phase="registered", error=problem)

    def _on_message(self, topic: str, document: Any) -> None:
        if topic == topics.session_response(self._link.dsn):
            self._sessions.on_response(document)
        elif topic == topics.logs_response(self._link.dsn):
            self._shipper.on_receipt(document)
        elif topic in (topics.device_commands(self._link.dsn), topics.COMMANDS_BROADCAST):
            self._commands.on_command(document)

    async def _answer(self, arguments: list[str]) -> dict[str, Any]:
        return await control.execute(arguments, self._state, self._sessions, compositions=self._compositions)

    async def _attempt(self, wish: Awaitable[dict[str, Any]]) -> None:
        """Do what nobody waits for: a refusal goes to the log."""
        try:
            await wish
        except (SessionRefusedError, CompositionError) as error:
            self._journal.error("device-manager", str(error))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_end)

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._break(error)

    def _on_loop_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._break(error if isinstance(error, Exception) else RuntimeError(context["message"]))

    def _break(self, error: BaseException) -> None:
        if not self._over.done():
            self._over.set_exception(error)

    def _on_signal(self, number: signal.Signals) -> None:
        if "ignores-sigterm" in self._settings.faults and number == signal.SIGTERM:
            self._journal.warning("faults", "simulated fault: ignores-sigterm")
        elif not self._over.done():
            self._journal.info("device-manager", f"{number.name}: stopping")
            self._over.set_result(None)

    def _on_child_end(self) -> None:
        if orphans.reap(self._compositions.guard.processes):
            asyncio.get_running_loop().call_later(REAP_AGAIN, self._on_child_end)

    def _die(self, fault: str, code: int) -> None:
        """End at once and leave everything as it is, as a crash does."""
        self._journal.write("CRITICAL", "faults", f"simulated fault: {fault}")
        os._exit(code)

    async def _stop(self) -> None:
        """Stop in order: modules, session, logs, connection; what does not answer in its time is left behind."""
        self._state.update(phase="stopping")
        self._control.close()
        await self._compositions.stop_all(MODULE_GRACE)
        if self._own_children is not None:
            orphans.kill(self._own_children)
        if self._compositions.bus.done():
            self._compositions.bus.result().close()
        if self._sessions.active is not None:
            await self._attempt(self._sessions.stop(timeout=SESSION_GRACE if self._link.online else 0.0))
        self._journal.info("device-manager", "Stopped")
        if self._link.online:
            try:
                async with asyncio.timeout(LOG_GRACE):
                    await self._shipper.drained()
            except TimeoutError:
                self._journal.warning("logs", "the platform did not take the last messages in time")
        self._heartbeat.send_offline()
        self._link.say_goodbye()
        self._state.update(phase="stopped")

    async def _abandon(self, ending: Ending) -> None:
        """End after a failure: say why, and leave no module behind."""
        self._control.close()
        farewell.tell(ending, self._journal, self._state)
        with contextlib.suppress(Ending):  # the disk is still full: the guard kills what is left
            await self._compositions.stop_all(MODULE_GRACE)


def _import_bus() -> tuple[ModuleType, frozenset[int]]:
    """Import ZeroMQ, and YAML for the first composition, in a thread: they take longer than everything else.

    Return the bus's module, and the children this process has before any module runs.
    """
    import yaml  # noqa: F401

    from roboticks_tasks.sim.device_manager import bus

    return bus, orphans.adopt()
