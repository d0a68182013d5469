"""From whatever a console shows to a shell that answers: boot messages, a login, a shell, somebody's half line."""

from __future__ import annotations

import re
import secrets

from roboticks_tasks.errors import BoardError
from roboticks_tasks.profiles.values import Console, Login
from roboticks_tasks.serial_console.line import Line
from roboticks_tasks.targets.serial.dialogue import FOREIGN, PROMPT, SETTLED, Dialogue
from roboticks_tasks.targets.serial.exchange import echo_error
from roboticks_tasks.targets.serial.loop import QUIT, STALE
from roboticks_tasks.waiting import Deadline

LISTEN = 0.15
"""Seconds in which a board that is booting says something."""

BOOT_PAUSE = 2.0
"""Seconds of silence in a boot log before a key is pressed: a boot loader counts down once per second."""

LOGIN_PAUSE = 3.0
"""Seconds until a login asks for a password, starts a shell, or says that it was wrong."""

INTERRUPT = b"\x03"
DISCARD = b"\x15\r"
"""Removes what somebody has typed, then asks for a prompt."""

FLUSH = b"\n" * 1000 + b".\nno\n"
"""Gets the loop of a killed run out of an upload, or ends its start, on a console whose shell no interrupt reaches."""


def reach_shell(line: Line, login: Login, *, password: str | None, timeout: float, console: Console) -> bool:
    """Bring the console to a shell prompt; tell whether that took a login.

    BoardError says what the console shows instead, or that the login was refused.
    """
    way = Way(line, login, password=password, deadline=Deadline(timeout))
    while not way.deadline.expired:
        if way.step():
            return way.names > 0
    words = way.dialogue.last_words
    if way.dialogue.unreadable:
        raise _unreadable(console, way.dialogue.unreadable)
    if words:
        raise _no_shell(words.replace(password, "***") if password else words)
    raise BoardError(
        f"the console {console.port} was silent for {timeout:g} s",
        remedy="is the board on, and are port and baud rate those of its console?",
    )


class Way:
    """The way to a shell, step by step: the prompt that is shown says which key to press."""

    def __init__(self, line: Line, login: Login, *, password: str | None, deadline: Deadline) -> None:
        self.deadline = deadline
        self.dialogue = Dialogue(line, login.login_prompt, login.password_prompt)
        self.names = 0
        self._login = login
        self._password = password
        self._passwords = self._failures = 0
        self._asked = False
        self._pause = BOOT_PAUSE if self.dialogue.listen(LISTEN) else 0.0

    def step(self) -> bool:
        """Answer to what the console shows; tell whether that is a shell's prompt."""
        prompt = self.dialogue.await_prompt(self._pause, self.deadline)
        if re.search(self._login.login_prompt, prompt):
            self._give_name()
        elif re.search(self._login.password_prompt, prompt):
            self._give_password()
        elif FOREIGN.match(prompt):
            raise _no_shell(prompt)
        elif STALE in self.dialogue.seen:
            self._press(QUIT.encode() + b"\n", pause=SETTLED)
        elif self._asked and self.dialogue.seen.count(b"\n") > 5:  # more than a prompt: it is booting after all
            self._press(b"", pause=BOOT_PAUSE)
        elif not self._asked and not (self.names and PROMPT.search(prompt)):
            self._ask_for_prompt()
        elif _is_shell(self.dialogue, self.deadline):
            return True
        else:
            self._failures, self._asked, self._pause = self._failures + 1, False, BOOT_PAUSE
        return False

    def _press(self, keys: bytes, *, pause: float, asked: bool = False) -> None:
        self._asked, self._pause = asked, pause
        self.dialogue.press(keys)

    def _give_name(self) -> None:
        if self._passwords or self.names > 2:
            raise _refused(self._login)
        self.names += 1
        self._press(self._login.user.encode() + b"\r", pause=LOGIN_PAUSE)

    def _give_password(self) -> None:
        if self._passwords:
            raise _refused(self._login)
        keys = b""
        if self.names:  # else it asks for the password of a name that somebody else has typed
            keys = _password(self._login, self._password, self.dialogue)
            self._passwords += 1
        self._press(keys + b"\r", pause=LOGIN_PAUSE)

    def _ask_for_prompt(self) -> None:
        wake = (INTERRUPT if self._failures else b"") + (FLUSH if self._failures > 1 else b"")
        self._press(wake + DISCARD, pause=SETTLED, asked=True)
        self._failures %= 2  # a shell answers each line of the flood with a prompt: not again at once


def leave_shell(line: Line, login: Login) -> None:
    """Log out, and wait until the console asks for a login again."""
    deadline = Deadline(LOGIN_PAUSE)
    dialogue = Dialogue(line)
    dialogue.press(b"exit\r")
    while not deadline.expired and not re.search(login.login_prompt, dialogue.last_line):
        dialogue.listen(deadline.remaining)


def _is_shell(dialogue: Dialogue, deadline: Deadline) -> bool:
    """Have it start `sh`, which no boot loader can; False when something else answers, or nothing."""
    nonce = secrets.token_hex(4)
    dialogue.press(f'sh -c \'echo "<{nonce}"" sh>"\'\r'.encode())
    wait = Deadline(min(LOGIN_PAUSE, deadline.remaining))
    while f"<{nonce} sh>".encode() not in dialogue.seen:
        if wait.expired:
            return False
        dialogue.listen(wait.remaining)
    return True


def _password(login: Login, password: str | None, dialogue: Dialogue) -> bytes:
    if password is not None:
        dialogue.press(DISCARD[:1])
        dialogue.listen(SETTLED)
        if b"\x15" in dialogue.seen or b"^U" in dialogue.seen:  # a login has turned its echo off by now
            raise echo_error()
        return password.encode()
    name = login.password_variable
    if name is None:
        raise BoardError(
            f"the console asks for the password of {login.user!r}",
            remedy="name the environment variable that holds it in `target.login.password_variable`",
        )
    raise BoardError(f"the console asks for the password of {login.user!r}", remedy=f"set {name}")


def _refused(login: Login) -> BoardError:
    source = login.password_variable or "target.login"
    return BoardError(
        f"the console refuses the login of {login.user!r}", remedy=f"check `target.login.user` and {source}"
    )


def _unreadable(console: Console, words: str) -> BoardError:
    there = "the server's baud rate for it" if console.port.startswith("socket:") else "`console.baudrate`"
    return BoardError(
        f"what comes from the console {console.port} at {console.baudrate} baud is unreadable ({words})",
        remedy=f"set {there} to the board's, mostly 115200, 9600 or 1500000; check that cable and board share ground",
    )


def _no_shell(words: str) -> BoardError:
    remedy = "boot it into an operating system with a shell on this console, or set `target.login` for its prompts"
    return BoardError(f"the board's console leads to no shell: it shows {words.strip()!r}", remedy=remedy)
