"""A signal stops pytest in order: fixtures are torn down, the JUnit file is whole, a worker of xdist never stays.

pytest itself dies of SIGTERM and SIGHUP on the spot, and a second Ctrl-C breaks off the clean-up of the first.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from roboticks_tasks.pytest_plugin.breaking import CONTROLLER, Stop
from roboticks_tasks.signals import PARENT_VARIABLE, SIGNALS, end_with_parent


@contextmanager
def stoppable(config: pytest.Config) -> Iterator[Stop]:
    """Have signals stop the session in order, for the block, and a little longer when one came.

    Only those that do what they do by default: who has a handler of his own, or ignores one (nohup), knows why. With
    --pdb somebody sits at the terminal, and in another thread than the main one there are no handlers.
    """
    stop = Stop(config)
    if config.getoption("usepdb", False) or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    config.pluginmanager.register(stop, "roboticks_stop")
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    previous = {number: signal.getsignal(number) for number in SIGNALS if signal.getsignal(number) in defaults}

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_patient:
            stop.handle(number, frame)
        else:
            restore()
            signal.raise_signal(number)

    def restore() -> None:
        while previous:
            signal.signal(*previous.popitem())

    for number in previous:
        signal.signal(number, handle)
    _leave_children_alone(previous, restore)
    _end_with_controller(getattr(config, "workerinput", {}).get(CONTROLLER))
    try:
        yield stop
    finally:
        if stop.received is None:
            restore()


def _leave_children_alone(numbers: Collection[int], restore: Callable[[], None]) -> None:
    """Let the signals do in forked children what they did before.

    They are blocked for the moment of the fork: Python forgets one that has come to a child with a handler by then, and
    whoever waits for the end of a process that he has started and stopped at once would wait for ever.
    """
    masks: dict[int, set[int]] = {}

    def block() -> None:
        masks[threading.get_ident()] = set(signal.pthread_sigmask(signal.SIG_BLOCK, numbers))

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop(threading.get_ident(), ()))

    def begin() -> None:
        restore()
        unblock()

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=begin)


def _end_with_controller(pid: int | None) -> None:
    """Have a worker stopped as soon as its controller is gone; xdist itself takes five seconds to notice."""
    if pid is not None and os.getppid() == pid:  # another parent is a wrapper of the user's: it need not outlive us
        end_with_parent({PARENT_VARIABLE: str(pid)})
