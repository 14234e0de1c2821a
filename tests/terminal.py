"""A command at a terminal of a width, as a person sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
from pathlib import Path
from typing import NamedTuple

from tiny_search import command

# What a person's environment may say of terminals.
_OF_TERMINALS = ("TERM", "COLORTERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")


class Seen(NamedTuple):
    """The exit code, and all that came to the terminal with its control codes."""

    code: int
    text: str


def at_terminal(
    *words: str | Path, cwd: Path, columns: int = 80, timeout: float = 120, **environment: str
) -> Seen:
    """Run a command with both streams on a terminal.

    Args:
        words: Of the command.
        cwd: To run it in.
        columns: Of the terminal.
        timeout: In seconds.
        environment: What is set; TERM is ``xterm`` where it does not say, and unset where empty.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in _OF_TERMINALS}
    given = {"TERM": "xterm", **environment}
    process = subprocess.Popen(
        command(*words),
        cwd=cwd,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**kept, **{name: value for name, value in given.items() if value}},
    )
    os.close(theirs)
    read: list[bytes] = []

    def listen() -> None:
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux's word for the end of a terminal
                return
            if not part:
                return
            read.append(part)

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        code = process.wait(timeout)
    finally:
        process.kill()
        listener.join()
        os.close(ours)
    return Seen(code, b"".join(read).decode("utf-8", "replace").replace("\r\n", "\n"))
