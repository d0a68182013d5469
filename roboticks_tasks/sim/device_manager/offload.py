"""Blocking calls off the event loop, in threads that never keep the process alive."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def offload(function: Callable[[], T]) -> T:
    """Run `function` in a thread of its own and return what it returns or raise what it raises.

    Unlike the threads of asyncio's executor, an unfinished one is not waited for at exit: a stop is never delayed by
    a connection attempt that hangs.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        try:
            _hand_over(loop, future, result=function())
        except Exception as error:  # handed to the one who waits
            _hand_over(loop, future, error=error)

    threading.Thread(target=work, daemon=True, name="offload").start()
    return await future


def _hand_over(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    *,
    result: object = None,
    error: Exception | None = None,
) -> None:
    def settle() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(settle)
