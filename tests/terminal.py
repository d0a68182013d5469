"""Signals as they are at a terminal: whoever starts a program in the background has some of them ignored."""

from __future__ import annotations

import signal


def heed_signals() -> None:
    """Have SIGINT, SIGHUP and SIGQUIT do what they do by default, in this process and in those that it starts."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
