"""Brings the parts of the platform up, in the order that is ready soonest, and takes them down again."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from roboticks_tasks.sim import topics
from roboticks_tasks.sim.platform import authority, directory, ports
from roboticks_tasks.sim.platform.ports import HOST

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
LOST_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says; a port of 0 means the one of the last start, or any free one."""

    folder: Path
    http_port: int = 0
    mqtt_port: int = 0
    broker: str = "auto"


class Broker(Protocol):
    """What both brokers are."""

    port: int

    async def stop(self) -> None:
        """End it."""


class BrokerLostError(Exception):
    """The broker is gone for good."""


async def run(options: Options, ready: Callable[[dict[str, object]], None]) -> None:
    """Run the platform in a folder that is locked already until cancelled; call `ready` with its description once.

    Raises PortInUseError, BrokerLostError, NewerStateError, sqlite3.Error, OSError, ValueError, RuntimeError.
    """
    folder = options.folder
    (folder / directory.STATE).unlink(missing_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        description, lost = await _start(options, stack)
        directory.write(folder / directory.STATE, json.dumps(description).encode())
        stack.callback((folder / directory.STATE).unlink, missing_ok=True)
        ready(description)
        gc.freeze()
        gc.enable()
        threading.Thread(target=authority.warm, daemon=True).start()
        await lost


async def _start(options: Options, stack: contextlib.AsyncExitStack) -> tuple[dict[str, object], asyncio.Future[None]]:
    """Start all parts; return the platform's description, and what ends with an error when the broker is lost."""
    folder = options.folder
    certificates = authority.prepare(folder)
    last_http, last_mqtt = directory.last_ports(folder)
    starting = asyncio.create_task(_start_broker(options, last_mqtt, certificates))
    stack.push_async_callback(_stop_broker, starting)
    # One turn of the loop forks mosquitto; it starts while the imports below run.
    await asyncio.sleep(0)
    from roboticks_tasks.sim.platform import exchange, store, store_devices

    database = store.Store(folder / directory.DATABASE)
    stack.push_async_callback(database.close)
    await database.write(store_devices.all_offline)
    kind, broker = await starting
    lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    client = exchange.Exchange(database, connection_changed=_watch(lost))
    stack.push_async_callback(client.stop)
    client.connect(host=HOST, port=broker.port, tls=exchange.client_context(certificates))
    # The client connects in its thread while these, the largest imports, run.
    from roboticks_tasks.sim.platform import api, web
    from roboticks_tasks.sim.platform.serving import ORGANIZATION, PROJECT, Platform

    platform = Platform(
        store=database,
        certificates=certificates,
        project_secret=directory.secret(folder / directory.PROJECT_SECRET, "rbtk_secret_"),
        api_key=directory.secret(folder / directory.API_KEY, "rbtk_"),
        mqtt_host=HOST,
        mqtt_port=broker.port,
        broker=kind,
        publish=client.publish,
    )
    listener = await ports.claim("HTTP", wanted=options.http_port, last=last_http)
    port = listener.getsockname()[1]
    await stack.enter_async_context(web.serving(api.build(platform), listener))
    directory.keep_ports(folder, http=port, mqtt=broker.port)
    try:
        await asyncio.wait_for(client.subscribed.wait(), CONNECT_SECONDS)
    except TimeoutError as error:
        raise RuntimeError("the broker does not let the platform's own client in") from error
    description: dict[str, object] = {
        "pid": os.getpid(),
        "start_time": directory.start_time(),
        "url": f"http://{HOST}:{port}",
        "mqtt": platform.mqtt,
        "broker": kind,
        "organization": ORGANIZATION,
        "project": PROJECT,
    }
    return description, lost


def _watch(lost: asyncio.Future[None]) -> Callable[[bool], None]:
    """Return what is told of each change of the connection to the broker, and fails `lost` when none comes back."""
    timers: list[asyncio.TimerHandle] = []

    def give_up() -> None:
        if not lost.done():
            lost.set_exception(BrokerLostError(f"the broker has been out of reach for {LOST_SECONDS:.0f} s"))

    def changed(connected: bool) -> None:
        while timers:
            timers.pop().cancel()
        if not connected:
            timers.append(lost.get_loop().call_later(LOST_SECONDS, give_up))

    return changed


async def _start_broker(options: Options, last: int, certificates: authority.Files) -> tuple[str, Broker]:
    """Start the wanted broker, or with `auto` the best that works; return its kind with it."""
    from roboticks_tasks.sim.platform import mosquitto

    with await ports.claim("MQTT", wanted=options.mqtt_port, last=last) as probe:
        port = probe.getsockname()[1] if options.mqtt_port or last else 0
    program = mosquitto.find() if options.broker != "builtin" else None
    if options.broker == "mosquitto" and program is None:
        raise RuntimeError("mosquitto is not installed: install it, or use --broker builtin")
    if program is not None:
        try:
            return "mosquitto", await mosquitto.start(
                host=HOST,
                port=port,
                directory=options.folder / "mosquitto",
                ca=certificates.ca,
                certificate=certificates.server,
                key=certificates.server_key,
                program=program,
            )
        except (RuntimeError, ValueError, FileNotFoundError, PermissionError) as error:
            # Another version, or a machine that confines it: ours serves as well.
            if options.broker == "mosquitto":
                raise
            log.warning("mosquitto does not work here, our own broker takes its place: %s", error)
    from roboticks_tasks.sim.platform import broker

    return "builtin", await broker.start(host=HOST, port=port, tls=server_context(certificates), allowed=topics.allowed)


async def _stop_broker(starting: asyncio.Task[tuple[str, Broker]]) -> None:
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        _, broker = await starting
        await broker.stop()


def server_context(certificates: authority.Files) -> ssl.SSLContext:
    """Return the broker's TLS context: only clients that our authority has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(certificates.ca)
    context.load_cert_chain(certificates.server, certificates.server_key)
    return context
