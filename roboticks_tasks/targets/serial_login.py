"""From whatever a console shows to a shell that answers: boot messages, a login, a shell, somebody's half line."""

from __future__ import annotations

import re
import secrets

from roboticks_tasks.errors import BoardError
from roboticks_tasks.profiles.values import Login
from roboticks_tasks.serial_console.line import Line
from roboticks_tasks.targets.serial_exchange import echo_error
from roboticks_tasks.targets.serial_loop import QUIT, STALE
from roboticks_tasks.waiting import Deadline

LISTEN = 0.15
"""Seconds in which a board that is booting says something."""

SETTLED = 0.15
"""Seconds of silence after which a prompt is one: "Last login: " is none."""

BOOT_PAUSE = 2.0
"""Seconds of silence in a boot log before a key is pressed: a boot loader counts down once per second."""

LOGIN_PAUSE = 3.0
"""Seconds until a login asks for a password, starts a shell, or says that it was wrong."""

INTERRUPT = b"\x03"
DISCARD = b"\x15\r"
"""Removes what somebody has typed, then asks for a prompt."""

FLUSH = b"\n" * 1000
"""Gets the loop of a killed run out of an upload, on a console whose shell no interrupt reaches."""

FOREIGN = re.compile(r"^(?:\S*=> ?|U-Boot[^>]*> ?|grub(?: rescue)?> ?|>>> ?|uart:~\$ ?)$")
"""Prompts of what is no shell: U-Boot, GRUB, Python, Zephyr."""

PROMPT = re.compile(r"[#$%>] ?$")
ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78])")


class Dialogue:
    """What a console has shown since the last key was pressed."""

    def __init__(self, line: Line, *patterns: str) -> None:
        self._line = line
        self._prompts = [*map(re.compile, patterns), FOREIGN, PROMPT]
        self.seen = b""
        self.last_words = ""

    @property
    def last_line(self) -> str:
        """Return the line that the cursor is in, without colours."""
        return self._text().rpartition("\n")[2].rpartition("\r")[2]

    def press(self, keys: bytes) -> None:
        """Send keys, and forget what was before."""
        self.seen = b""
        self._line.write(keys)

    def listen(self, timeout: float) -> bool:
        """Take what comes; tell whether anything did."""
        data = self._line.read(timeout)
        self.seen = (self.seen + data)[-16384:]
        if data and (lines := [each for each in self._text().split("\n") if each.strip()]):
            self.last_words = lines[-1].strip()[-100:]
        return bool(data)

    def await_prompt(self, pause: float, deadline: Deadline) -> str:
        """Return the line with the cursor, once it has stood still: a prompt for a moment, another for `pause`."""
        quiet = Deadline(pause)
        while True:
            prompt = self.last_line
            if self.listen(min(SETTLED, deadline.remaining)):
                quiet = Deadline(pause)
            elif quiet.expired or deadline.expired or any(each.search(prompt) for each in self._prompts):
                return prompt

    def _text(self) -> str:
        return ESCAPES.sub(b"", self.seen).decode("utf-8", "replace")


def reach_shell(line: Line, login: Login, *, password: str | None, timeout: float) -> bool:
    """Bring the console to a shell prompt; tell whether that took a login.

    BoardError says what the console shows instead, or that the login was refused.
    """
    deadline = Deadline(timeout)
    dialogue = Dialogue(line, login.login_prompt, login.password_prompt)
    pause = BOOT_PAUSE if dialogue.listen(LISTEN) else 0.0
    names = passwords = failures = 0
    asked = False
    while not deadline.expired:
        prompt = dialogue.await_prompt(pause, deadline)
        if re.search(login.login_prompt, prompt):
            if passwords or names > 2:
                raise _refused(login)
            names, asked, pause = names + 1, False, LOGIN_PAUSE
            dialogue.press(login.user.encode() + b"\r")
        elif re.search(login.password_prompt, prompt):
            if passwords:
                raise _refused(login)
            asked, pause = False, LOGIN_PAUSE
            passwords += bool(names)  # it may ask for the password of a name that somebody else has typed
            dialogue.press(_password(login, password, dialogue) + b"\r" if names else b"\r")
        elif FOREIGN.match(prompt):
            raise _no_shell(prompt)
        elif STALE in dialogue.seen:
            asked, pause = False, SETTLED
            dialogue.press(QUIT.encode() + b"\n")
        elif asked and dialogue.seen.count(b"\n") > 5:  # more than a prompt: the board is booting after all
            asked, pause = False, BOOT_PAUSE
            dialogue.seen = b""
        elif not asked and not (names and PROMPT.search(prompt)):
            asked, pause = True, SETTLED
            dialogue.press((INTERRUPT if failures else b"") + (FLUSH if failures > 1 else b"") + DISCARD)
            failures %= 2  # a shell answers each line of the flood with a prompt: not again at once
        elif _is_shell(dialogue, deadline):
            return names > 0
        else:
            failures, asked, pause = failures + 1, False, BOOT_PAUSE
    if dialogue.last_words:
        words = dialogue.last_words
        raise _no_shell(words.replace(password, "***") if password else words)
    raise BoardError(
        f"the console was silent for {timeout:g} s",
        remedy="is the board on, and are port and baud rate those of its console?",
    )


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


def _no_shell(words: str) -> BoardError:
    remedy = "boot it into an operating system with a shell on this console, or set `target.login` for its prompts"
    return BoardError(f"the board's console leads to no shell: it shows {words.strip()!r}", remedy=remedy)
