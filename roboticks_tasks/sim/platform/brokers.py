"""Which broker runs, and how it is noticed that it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from roboticks_tasks.sim import topics
from roboticks_tasks.sim.platform import ports
from roboticks_tasks.sim.platform.authority import Files
from roboticks_tasks.sim.platform.ports import HOST

log = logging.getLogger(__name__)

LOST_SECONDS = 3.0


class Broker(Protocol):
    """What both brokers are."""

    port: int

    async def stop(self) -> None:
        """End it."""


class BrokerLostError(Exception):
    """The broker is gone for good."""


async def start(
    folder: Path, certificates: Files, *, wanted: str, demanded_port: int, last_port: int
) -> tuple[str, Broker]:
    """Start the `wanted` broker, or with `auto` the best that works; return its kind with it.

    Its port is the demanded one; when that is 0 the last one or any free one.
    """
    with await ports.claim("MQTT", wanted=demanded_port, last=last_port) as probe:
        port = probe.getsockname()[1] if demanded_port or last_port else 0
    try:
        return await _start_on(port, folder, certificates, wanted=wanted)
    except OSError as error:
        # Somebody took the port after our look at it; any other will do unless it was demanded.
        if error.errno != errno.EADDRINUSE or demanded_port:
            raise
        return await _start_on(0, folder, certificates, wanted=wanted)


async def _start_on(port: int, folder: Path, certificates: Files, *, wanted: str) -> tuple[str, Broker]:
    from roboticks_tasks.sim.platform import mosquitto

    program = mosquitto.find() if wanted != "builtin" else None
    if wanted == "mosquitto" and program is None:
        raise RuntimeError("mosquitto is not installed: install it, or use --broker builtin")
    if program is not None:
        try:
            return "mosquitto", await mosquitto.start(
                host=HOST,
                port=port,
                directory=folder / "mosquitto",
                ca=certificates.ca,
                certificate=certificates.server,
                key=certificates.server_key,
                program=program,
            )
        except (RuntimeError, ValueError, FileNotFoundError, PermissionError) as error:
            # Another version, or a machine that confines it: ours serves as well.
            if wanted == "mosquitto":
                raise
            log.warning("mosquitto does not work here, our own broker takes its place: %s", error)
    from roboticks_tasks.sim.platform import broker

    return "builtin", await broker.start(host=HOST, port=port, tls=server_context(certificates), allowed=topics.allowed)


async def stop(starting: asyncio.Task[tuple[str, Broker]]) -> None:
    """Stop the broker, or its start that is under way."""
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        _, broker = await starting
        await broker.stop()


def server_context(certificates: Files) -> ssl.SSLContext:
    """Return the broker's TLS context: only clients that our authority has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(certificates.ca)
    context.load_cert_chain(certificates.server, certificates.server_key)
    return context


def loss_of(broker: Broker) -> asyncio.Future[None]:
    """Return what fails as soon as mosquitto ends; our own broker ends with this process."""
    from roboticks_tasks.sim.platform.mosquitto import Mosquitto

    lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    # Looked at, so that asyncio does not complain of it when another error, or the end, is first.
    lost.add_done_callback(_look_at)

    def ended(task: asyncio.Task[int]) -> None:
        if not (lost.done() or task.cancelled()):
            how = task.exception() or f"exit code {task.result()}"
            lost.set_exception(BrokerLostError(f"the broker is lost: mosquitto ended by itself ({how})"))

    if isinstance(broker, Mosquitto):
        broker.ended.add_done_callback(ended)
    return lost


def _look_at(done: asyncio.Future[None]) -> None:
    if not done.cancelled():
        done.exception()


def watch(lost: asyncio.Future[None]) -> Callable[[bool], None]:
    """Return what is told of each change of the connection to the broker, and fails `lost` when none comes back."""
    timers: list[asyncio.TimerHandle] = []

    def give_up() -> None:
        if not lost.done():
            lost.set_exception(BrokerLostError(f"the broker is lost: out of reach for {LOST_SECONDS:.0f} s"))

    def changed(connected: bool) -> None:
        while timers:
            timers.pop().cancel()
        if not connected:
            timers.append(lost.get_loop().call_later(LOST_SECONDS, give_up))

    return changed
