"""Signals end a run in order: the first one raises, the later ones cannot break the clean-up. All are really sent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from roboticks_tasks import signals
from roboticks_tasks.errors import Cancelled

PRELUDE = """
import os, signal, sys, time
from roboticks_tasks.errors import Cancelled
from roboticks_tasks.signals import handled
def send(name):
    os.kill(os.getpid(), getattr(signal, name))
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PRELUDE + program], capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize(("name", "number"), [("SIGINT", 2), ("SIGTERM", 15), ("SIGHUP", 1)])
def test_the_first_signal_raises_and_the_second_is_swallowed(name: str, number: int) -> None:
    done = run(f"""
with handled() as interruption:
    try:
        with interruption.raising():
            send("{name}")
        print("not raised")
    except Exception:
        print("swallowed by a handler of exceptions")
    except Cancelled as error:
        send("SIGTERM")
        send("SIGINT")
        print(error.signal_number, error.exit_code, interruption.received)
""")
    assert done.stdout == f"{number} {128 + number} {number}\n", done.stderr


def test_behind_the_work_a_signal_is_remembered_and_raises_nothing() -> None:
    done = run("""
with handled() as interruption:
    with interruption.raising():
        pass
    send("SIGTERM")
    send("SIGINT")
    print(interruption.received)
""")
    assert done.stdout == "15\n", done.stderr


def test_a_signal_before_the_work_keeps_it_from_beginning() -> None:
    done = run("""
with handled() as interruption:
    send("SIGTERM")
    try:
        with interruption.raising():
            print("begun")
    except Cancelled as error:
        print(error)
""")
    assert done.stdout == "signal 15\n", done.stderr


def test_a_signal_at_any_moment_lets_the_clean_up_have_its_turn() -> None:
    """A signal is sent at every line that is executed, from the beginning of the work to its end."""
    done = run("""
def scenario(moment):
    steps, log = [0], []
    def trace(frame, event, argument):
        steps[0] += 1
        if steps[0] == moment:
            send("SIGTERM")
        return trace
    with handled() as interruption:
        sys.settrace(trace)
        try:
            with interruption.raising():
                log.append("work")
        except BaseException:
            pass
        log.append("clean-up")
        sys.settrace(None)
    return log, steps[0] < moment
moment, over = 1, False
while not over:
    log, over = scenario(moment)
    assert log[-1] == "clean-up", moment
    moment += 1
print(moment > 15)
""")
    assert done.stdout == "True\n", done.stderr


def test_a_signal_ends_a_blocking_call_at_once() -> None:
    done = run("""
with handled() as interruption:
    try:
        with interruption.raising():
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            signal.signal(signal.SIGALRM, lambda *_: send("SIGTERM"))
            time.sleep(60)
    except Cancelled as error:
        print(error)
""")
    assert done.stdout == "signal 15\n", done.stderr


def test_the_handlers_of_before_are_back_afterwards_even_after_a_signal() -> None:
    done = run("""
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
try:
    with handled() as interruption, interruption.raising():
        send("SIGTERM")
except Cancelled:
    pass
print(before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)])
send("SIGTERM")
""")
    assert done.stdout == "True\n", done.stderr
    assert done.returncode == -signal.SIGTERM


def test_a_run_under_nohup_outlives_the_terminal() -> None:
    done = run("""
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with handled() as interruption:
    send("SIGHUP")
    print(interruption.received)
""")
    assert done.stdout == "None\n", done.stderr


def test_what_came_in_an_outer_block_keeps_the_work_of_an_inner_one_from_beginning() -> None:
    done = run("""
with handled() as outer_block:
    send("SIGTERM")
    try:
        with handled() as interruption, interruption.raising():
            print("begun")
    except Cancelled as error:
        print(error, interruption.elapsed >= 0, outer_block.elapsed > 0)
""")
    assert done.stdout == "signal 15 True True\n", done.stderr


def test_at_the_end_of_a_process_no_signal_changes_its_exit_code() -> None:
    done = run("""
from roboticks_tasks.signals import ignore
ignore()
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    send(name)
sys.exit(3)
""")
    assert done.returncode == 3, done.stderr


def test_an_unhandled_cancellation_is_told_from_a_bug_by_its_kind() -> None:
    assert issubclass(Cancelled, KeyboardInterrupt)
    assert not issubclass(Cancelled, Exception)


def test_outside_the_main_thread_nothing_is_installed_and_nothing_breaks() -> None:
    before, found = signal.getsignal(signal.SIGTERM), []

    def block() -> None:
        with signals.handled() as interruption:
            found.append((interruption.received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert found == [(None, before)]


CHILD = """
import os, sys
from roboticks_tasks.signals import end_with_parent
end_with_parent(os.environ)
print("ready", flush=True)
sys.stdin.read()
print("alive", flush=True)
"""

STARTS = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"

STARTS_IN_A_THREAD = """
import subprocess, sys, threading
thread = threading.Thread(target=lambda: started.append(subprocess.Popen([sys.executable, "-c", sys.argv[1]])))
started = []
thread.start()
thread.join()
started[0].wait()
"""


@contextmanager
def started(program: str = STARTS, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has started another one, which has asked to end with its parent, if that is wanted of it."""
    pipe, neutral = subprocess.PIPE, {"CI": "", signals.PARENT_VARIABLE: ""}
    command, environment = [sys.executable, "-c", program, CHILD], {**os.environ, **neutral, **variables}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process


@pytest.mark.parametrize("ci", ["true", "1"])
def test_in_ci_a_run_ends_with_its_parent(ci: str) -> None:
    with started(CI=ci) as parent:
        parent.kill()
        assert parent.stdout is not None
        assert parent.stdout.read() == b""  # the run's own end of it, too, is closed


@pytest.mark.parametrize("variables", [{}, {"CI": "0"}, {"CI": "false"}, {"CI": "true", signals.PARENT_VARIABLE: "0"}])
def test_elsewhere_a_run_goes_on_without_its_parent(variables: dict[str, str]) -> None:
    with started(**variables) as parent:
        parent.kill()
        parent.wait()
        assert parent.communicate()[0] == b"alive\n"


def test_the_end_of_the_thread_that_has_started_it_is_not_that_of_its_parent() -> None:
    with started(STARTS_IN_A_THREAD, CI="true") as parent:
        assert parent.communicate()[0] == b"alive\n"


def test_a_run_ends_with_the_process_that_is_named_whosever_child_it_is() -> None:
    with subprocess.Popen(["sleep", "600"]) as named, started(**{signals.PARENT_VARIABLE: str(named.pid)}) as parent:
        named.kill()
        assert parent.stdout is not None
        assert parent.stdout.read() == b""


def test_a_run_that_is_to_end_with_a_process_that_has_ended_does_not_begin() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    done = run(f"""
from roboticks_tasks.signals import end_with_parent
end_with_parent({{"ROBOTICKS_END_WITH": "{ended.pid}"}})
print("begun")
""")
    assert (done.stdout, done.returncode) == ("", -signal.SIGTERM)
