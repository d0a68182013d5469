"""The local platform's process: `python -m roboticks_tasks.sim.platform --directory DIR`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import gc
import json
import logging
import os
import resource
import shutil
import signal
import sqlite3
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from roboticks_tasks.sim.platform import brokers, directory, ports, service, store

log = logging.getLogger(__name__)

FAILED = 3
"""Exit code when the platform could not start or go on."""

DESCRIPTORS = 4096

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ALMOST_NOTHING = 1_000_000
"""Free bytes below which a fault of reading or writing means that the disk is full."""

NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR)


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m roboticks_tasks.sim.platform", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="folder of the platform's state; made if need be")
    parser.add_argument("--http-port", type=port, default=0, help="0: the port of the last start, else any free one")
    parser.add_argument("--mqtt-port", type=port, default=0, help="0: the port of the last start, else any free one")
    parser.add_argument("--broker", choices=("auto", "mosquitto", "builtin"), default="auto")
    parser.add_argument("--ready-fd", type=int, help="gets one line of JSON when ready, or the error")
    return parser.parse_args(words)


def port(word: str) -> int:
    """Parse a port number."""
    number = int(word)
    if not 0 <= number < 65536:
        raise ValueError(word)
    return number


def allow_connections() -> None:
    """Have file descriptors for as many connections as are taken: the usual limit of 1024 is fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def announce(starter: BinaryIO | None, value: dict[str, object]) -> bool:
    """Write the one line that the starter waits for, and close the pipe to it; False when the starter has gone."""
    if starter is None or starter.closed:
        return True
    try:
        with starter:
            starter.write(json.dumps(value).encode() + b"\n")
    except OSError:
        return False
    return True


def explain(error: Exception, folder: Path) -> tuple[str, str]:
    """Return the code of the ready line's error and one clear sentence."""
    if isinstance(error, ssl.SSLError):
        # Before its errno is looked at: that is OpenSSL's, not the system's.
        return "failed", f"the certificates in {folder} are damaged, remove the folder to start afresh: {error}"
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, brokers.BrokerLostError):
        return "failed", str(error)
    if isinstance(error, directory.AlreadyRunningError):
        return "already-running", str(error)
    if isinstance(error, ports.PortInUseError) or number == errno.EADDRINUSE:
        return "port-in-use", str(error)
    if isinstance(error, store.NewerStateError):
        return "newer-state", str(error)
    database = f"{folder / directory.DATABASE}: {error}"
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith("SQLITE_IOERR") and shutil.disk_usage(folder).free >= ALMOST_NOTHING:
            # A quota looks like this too: SQLite does not pass on why the system refused.
            return "failed", f"the system fails to read or write, check the disk and quotas ({name}): {database}"
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            return "disk-full", f"the disk of {folder} is full: {database}"
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            return "not-writable", f"the database is not writable: {database}"
        return "failed", f"the database is not usable, move it away to start afresh: {database}"
    if number in FULL:
        return "disk-full", f"the disk of {folder} is full: {error}"
    if number in NOT_WRITABLE:
        return "not-writable", f"{folder} is not writable: {error}"
    return "failed", f"the platform failed: {error}"


async def supervise(options: service.Options, starter: BinaryIO | None) -> None:
    """Run the platform until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        # Once: a second signal must not break off the clean-up.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: None)
        task.cancel()

    def ready(description: dict[str, object]) -> None:
        if not announce(starter, description):  # who wanted it was killed meanwhile, and nobody else would stop it
            log.warning("The starter has gone: stopping")
            stop()

    task = asyncio.ensure_future(service.run(options, ready))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main(words: Sequence[str] | None = None) -> int:
    """Run the process and return its exit code."""
    # Collections during the imports cost a tenth of the start; the service switches them on when it is ready.
    gc.disable()
    options = arguments(words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s [%(name)s] %(message)s")
    logging.raiseExceptions = False
    folder = options.directory.absolute()
    allow_connections()
    starter = None
    if options.ready_fd is not None:
        os.set_inheritable(options.ready_fd, False)
        starter = os.fdopen(options.ready_fd, "wb", buffering=0)
    chosen = service.Options(
        folder=folder, http_port=options.http_port, mqtt_port=options.mqtt_port, broker=options.broker
    )
    try:
        with directory.locked(folder):
            asyncio.run(supervise(chosen, starter))
    except Exception as error:
        code, message = explain(error, folder)
        # A traceback would tell nothing of a broker that was killed.
        expected = code != "failed" or isinstance(error, brokers.BrokerLostError)
        log.error("%s", message, exc_info=None if expected else error)
        announce(starter, {"error": {"code": code, "message": message}})
        return FAILED
    return 0


if __name__ == "__main__":
    exit_code = main()
    logging.shutdown()
    sys.stderr.flush()
    # Without the interpreter's clean-up: all is closed, and a thread of a library must not delay the end.
    os._exit(exit_code)
