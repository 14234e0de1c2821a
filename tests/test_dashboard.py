"""A run's study in the Optuna dashboard, as a team looks at it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tiny_search import TRIALS

DASHBOARD = shutil.which("optuna-dashboard", path=str(Path(sys.executable).parent))


def asked(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


@pytest.mark.skipif(DASHBOARD is None, reason="optuna-dashboard is not installed")
def test_the_dashboard_shows_the_study(finished_copy: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(DASHBOARD), f"sqlite:///{finished_copy / 'run' / 'study.db'}"]
    words += ["--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            end = time.monotonic() + 60
            while True:
                try:
                    studies = asked(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
                    break
                except (urllib.error.URLError, ConnectionError):
                    assert server.poll() is None and time.monotonic() < end
                    time.sleep(0.2)
            (study,) = studies
            assert study["study_name"] == "collabdesign"
            assert study["directions"] == ["maximize", "minimize", "minimize"]
            place = f"http://127.0.0.1:{port}/api/studies/{study['study_id']}?after=0"
            trials = asked(place)["trials"]
        finally:
            server.kill()
    assert len(trials) == TRIALS
    assert {each["state"] for each in trials} == {"Complete"}
    assert all(len(each["values"]) == 3 and each["params"] for each in trials)
