"""Milliseconds that a person's own command prints: of a device, a simulator, another runtime.

The command is run by the shell in the folder of the requirements file. It gets the path of an ONNX
file, and its last line that is not empty must end in the milliseconds of one image: ``2.5``,
``2.5 ms`` or ``median: 2.5 ms``.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from collabdesign.design.files.values import MODEL_PLACE
from collabdesign.errors import NotMeasured

# A person may have put the place in quotes, which are those of the path then.
_PLACE = re.compile(rf"""(["']?){re.escape(MODEL_PLACE)}\1""")
_MILLISECONDS = re.compile(r"(?<![\w.+-])([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?) *(?:ms)?$")

_MOST = 10**9

# Of what a failed command printed, so many characters from each end of its output.
_SHOWN = 600

# Who left the command's group may hold its output open.
_AFTER_KILL_SECONDS = 1.0


def command_milliseconds(
    command: str, model: bytes, *, timeout: float, folder: Path | None = None
) -> float:
    """Run a command on a network and read what it measured.

    Args:
        command: With ``{onnx}`` where the path of the file belongs.
        model: The ONNX file.
        timeout: Seconds after which it is killed, with all that it started.
        folder: Where it is run; the current one where None.

    Raises:
        NotMeasured: It took too long, failed, or printed no milliseconds; the message shows what
            it printed.
    """
    with TemporaryDirectory(prefix="collabdesign-") as holder:
        path = Path(holder) / "network.onnx"
        path.write_bytes(model)
        line = _PLACE.sub(lambda _: shlex.quote(str(path)), command)
        code, said, errors = _run(line, timeout, folder)
    where = f"latency.command {command!r}"
    if code is None:
        rule = f"{where} must end within latency.timeout, {timeout:g} seconds, and was killed"
        raise _refusal(rule, said, errors)
    if code != 0:
        how = f"ended with {code}" if code > 0 else f"was ended by {signal.Signals(-code).name}"
        raise _refusal(f"{where} must end with exit code 0, and {how}", said, errors)
    last = next((each.strip() for each in reversed(said.splitlines()) if each.strip()), "")
    found = _MILLISECONDS.search(last)
    if found is None or not 0 < float(found[1]) <= _MOST:
        got = repr(last) if last else "nothing"
        rule = f"{where} must print milliseconds above 0 such as 2.5 as its last line, got {got}"
        raise _refusal(rule, said, errors)
    return float(found[1])


def _run(line: str, timeout: float, folder: Path | None) -> tuple[int | None, str, str]:
    """Exit code, None where it was killed after too long, and what it printed and complained."""
    try:
        process = subprocess.Popen(
            line,
            shell=True,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # so that all that it starts can be killed with it
        )
    except OSError as error:
        raise NotMeasured(f"latency.command must be run in latency.folder, got: {error}") from None
    try:
        said, errors = process.communicate(timeout=timeout)
        return process.returncode, said, errors
    except subprocess.TimeoutExpired:
        _kill(process)
        try:
            said, errors = process.communicate(timeout=_AFTER_KILL_SECONDS)
        except subprocess.TimeoutExpired as late:
            said, errors = _text(late.stdout), _text(late.stderr)
        return None, said, errors
    finally:  # also where Ctrl-C ends the wait
        if process.poll() is None:
            _kill(process)
            process.wait()


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _text(printed: bytes | str | None) -> str:
    return printed.decode(errors="replace") if isinstance(printed, bytes) else printed or ""


def _refusal(rule: str, said: str, errors: str) -> NotMeasured:
    parts = [
        f"it printed {'nothing' if not text.strip() else f'to {where}:'}{_indented(text)}"
        for where, text in (("stdout", said), ("stderr", errors))
        if text.strip() or where == "stdout"
    ]
    return NotMeasured("\n    ".join([rule, *parts, "once it is mended, the same command goes on"]))


def _indented(text: str) -> str:
    text = text.strip()
    if len(text) > 2 * _SHOWN:
        text = f"{text[:_SHOWN]}\n[...]\n{text[-_SHOWN:]}"
    return "".join(f"\n        {line}" for line in text.splitlines())
