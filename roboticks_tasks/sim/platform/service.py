"""Brings the parts of the platform up, in the order that is ready soonest, and takes them down again."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roboticks_tasks.sim.platform import authority, brokers, directory, ports
from roboticks_tasks.sim.platform.ports import HOST

if TYPE_CHECKING:
    from roboticks_tasks.sim.platform.store import Store

CONNECT_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says; a port of 0 means the one of the last start, or any free one."""

    folder: Path
    http_port: int = 0
    mqtt_port: int = 0
    broker: str = "auto"


async def run(options: Options, ready: Callable[[dict[str, object]], None]) -> None:
    """Run the platform in a folder that is locked already until cancelled; call `ready` with its description once.

    Raises PortInUseError, BrokerLostError, NewerStateError, sqlite3.Error, OSError, ValueError, RuntimeError.
    """
    folder = options.folder
    (folder / directory.STATE).unlink(missing_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        description, lost, database = await _start(options, stack)
        directory.write(folder / directory.STATE, json.dumps(description).encode())
        stack.callback((folder / directory.STATE).unlink, missing_ok=True)
        ready(description)
        gc.freeze()
        gc.enable()
        threading.Thread(target=authority.warm, daemon=True).start()
        from roboticks_tasks.sim.platform import absence, store_retention

        stack.callback(asyncio.create_task(store_retention.tidy(database, folder / directory.FILES)).cancel)
        stack.callback(asyncio.create_task(absence.watch(database)).cancel)
        await lost


async def _start(
    options: Options, stack: contextlib.AsyncExitStack
) -> tuple[dict[str, object], asyncio.Future[None], Store]:
    """Start all parts; return the platform's description, what fails when the broker is lost, and the store."""
    folder = options.folder
    certificates = authority.prepare(folder)
    last_http, last_mqtt = directory.last_ports(folder)
    starting = asyncio.create_task(
        brokers.start(folder, certificates, wanted=options.broker, demanded_port=options.mqtt_port, last_port=last_mqtt)
    )
    stack.push_async_callback(brokers.stop, starting)
    # One turn of the loop forks mosquitto; it starts while the imports below run.
    await asyncio.sleep(0)
    from roboticks_tasks.sim.platform import exchange, store, store_devices

    database = store.Store(folder / directory.DATABASE)
    stack.push_async_callback(database.close)
    await database.write(store_devices.all_offline)
    kind, broker = await starting
    lost = brokers.loss_of(broker)
    client = exchange.Exchange(database, connection_changed=brokers.watch(lost))
    stack.push_async_callback(client.stop)
    client.connect(host=HOST, port=broker.port, tls=exchange.client_context(certificates))
    # The client connects in its thread while these, the largest imports, run.
    from roboticks_tasks.sim.platform import api, presigned, web
    from roboticks_tasks.sim.platform.serving import ORGANIZATION, PROJECT, Platform

    presigned.prepare(folder / directory.FILES)
    platform = Platform(
        store=database,
        certificates=certificates,
        project_secret=directory.secret(folder / directory.PROJECT_SECRET, "rbtk_secret_"),
        api_key=directory.secret(folder / directory.API_KEY, "rbtk_"),
        mqtt_host=HOST,
        mqtt_port=broker.port,
        broker=kind,
        publish=client.publish,
        files=folder / directory.FILES,
    )
    listener = await ports.claim("HTTP", wanted=options.http_port, last=last_http)
    port = listener.getsockname()[1]
    await stack.enter_async_context(web.serving(api.build(platform), listener))
    directory.keep_ports(folder, http=port, mqtt=broker.port)
    await _connected(client.subscribed, lost)
    description: dict[str, object] = {
        "pid": os.getpid(),
        "start_time": directory.start_time(),
        "url": f"http://{HOST}:{port}",
        "mqtt": {"host": platform.mqtt_host, "port": platform.mqtt_port},
        "broker": kind,
        "organization": ORGANIZATION,
        "project": PROJECT,
    }
    return description, lost, database


async def _connected(subscribed: asyncio.Event, lost: asyncio.Future[None]) -> None:
    """Return when the platform's own client is; raise BrokerLostError and RuntimeError."""
    waiting = asyncio.ensure_future(subscribed.wait())
    ends: list[asyncio.Future[Any]] = [waiting, lost]
    try:
        await asyncio.wait(ends, timeout=CONNECT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if lost.done():
        lost.result()
    if not subscribed.is_set():
        raise RuntimeError("the broker does not let the platform's own client in")
