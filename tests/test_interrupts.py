"""Ctrl-C comes after what must not be cut, in a process of several threads."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from collabdesign.explore.interrupts import held_back


def test_ctrl_c_waits_for_the_block_though_another_thread_could_take_it() -> None:
    end = threading.Event()
    other = threading.Thread(target=end.wait)
    other.start()
    done = []
    try:
        with pytest.raises(KeyboardInterrupt), held_back():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            done.append("written")
    finally:
        end.set()
        other.join()
    assert done == ["written"]
    # And afterwards it is heard at once.
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
