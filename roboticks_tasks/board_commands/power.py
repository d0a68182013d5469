"""`power`: switch a board, or ask whether it has power."""

from __future__ import annotations

import argparse
from pathlib import Path

from roboticks_tasks import signals
from roboticks_tasks.boards import lease
from roboticks_tasks.boards.power import read_state, switch
from roboticks_tasks.console import say
from roboticks_tasks.errors import EXIT_PASSED, BoardError
from roboticks_tasks.profiles import board_of, load_profile


def power(options: argparse.Namespace) -> int:
    """Switch the power of one board, or only read it, while no run has the board; print its state.

    A parked board is switched like any other: that may be what it needs. BoardError when its power is not described.
    """
    profile = load_profile(options.profile, board=options.board)
    board = board_of(profile)  # never just any free one: this switches it off
    if board.power is None:
        raise BoardError(f"board {board.id} has no `power`", remedy="add its commands to the profile")
    if options.action == "state" and board.power.state is None:
        raise BoardError(f"board {board.id} has no `power.state`", remedy="add the command to the profile")
    with (
        signals.handled() as interruption,
        interruption.raising(),
        lease(profile, run=Path.cwd(), board=options.board, borrow_quarantined=True) as leased,
    ):
        board = board_of(leased)
        if options.action != "state":
            switch(board, options.action)
        state = read_state(board)
    done = {"on": "switched on", "off": "switched off", "cycle": "switched off and on"}
    say(f"{board.id} {state or done[options.action] + ', which was not read back'}")
    return EXIT_PASSED
