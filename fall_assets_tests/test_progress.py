"""Progress: paced lines in a log, and a bar on a terminal that the command line names."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
import time

import pytest

from fall_assets import progress
from fall_assets.progress import SCREEN, ProgressLog

PROGRAM = """
from fall_assets.progress import ProgressLog
say = ProgressLog("segments", print, every_s=1e-9)
for number in range(1, 5):
    say(number, 4, share=number / 4, note="3.0 h of footage an hour")
"""


def shown(*, terminal: bool, named: bool = True) -> tuple[str, str]:
    """What the program writes to a terminal (or a pipe in its place), and its standard output."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    if terminal:
        termios.tcsetwinsize(theirs, (24, 160))
    environment = dict(os.environ)
    environment.pop(SCREEN, None)
    if named:
        environment[SCREEN] = str(theirs)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        stdout=subprocess.PIPE,
        pass_fds=(theirs,),
        check=True,
        timeout=60,
    )
    os.set_blocking(ours, False)
    try:
        written = os.read(ours, 1 << 16).decode()
    except OSError:
        written = ""
    os.close(theirs)
    os.close(ours)
    return written, done.stdout.decode()


def test_a_terminal_gets_a_bar() -> None:
    drawn, lines = shown(terminal=True)
    assert "\r" in drawn
    assert "█" in drawn
    assert "100%|" in drawn
    assert "segments: 4 of 4" in drawn
    assert "3.0 h of footage an hour" in drawn
    assert drawn.endswith("\n")
    # The log has its lines still.
    assert lines.count("segments: ") == 4


@pytest.mark.parametrize(("terminal", "named"), [(False, True), (True, False)])
def test_elsewhere_there_are_lines_only(terminal: bool, named: bool) -> None:
    drawn, lines = shown(terminal=terminal, named=named)
    assert drawn == ""
    assert "\r" not in lines
    first, *_, last = lines.splitlines()
    assert first.startswith("segments: 1 of 4, ")
    assert ", 3.0 h of footage an hour, " in first
    assert last.startswith("segments: 4 of 4, ")
    assert last.endswith(", 0 s left")


def test_what_is_no_descriptor_is_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    for named in ("", "terminal", "-1", "987654"):
        monkeypatch.setenv(SCREEN, named)
        assert progress.screen() is None


def test_time_left_follows_the_share_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    lines: list[str] = []
    say = ProgressLog("segments", lines.append)
    now += 30
    # One of ten segments is done, and it was three quarters of the footage.
    say(1, 10, share=0.75)
    now += 1
    say(2, 10, share=0.8)
    now += 9
    say(10, 10, share=1.0)
    assert lines == [
        "segments: 1 of 10, 0.03/s, 10 s left",
        "segments: 10 of 10, 0.25/s, 0 s left",
    ]


def test_short_work_says_nothing() -> None:
    lines: list[str] = []
    say = ProgressLog("pieces", lines.append)
    for number in range(1, 4):
        say(number, 3)
    say.close()
    assert lines == []


def test_no_time_less_than_none_is_left() -> None:
    said: list[str] = []
    log = ProgressLog("segments", said.append, every_s=1e-9)
    time.sleep(0.01)
    log(22, 22, share=1.0000000000000002)
    assert said[-1].endswith(", 0 s left")
