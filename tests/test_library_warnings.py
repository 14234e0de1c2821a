"""What libraries warn of: heard in the thread that says it, with the file that it is about."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from collabdesign.evaluate import library_warnings
from collabdesign.evaluate.data.pictures import read_picture
from collabdesign.evaluate.library_warnings import heard, naming_file


def write_odd(path: Path) -> None:
    """A picture whose EXIF was cut off: Pillow reads it and warns."""
    marks = Image.Exif()
    marks[0x010E] = "x" * 200
    pixels = np.zeros((9, 9, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", exif=marks.tobytes()[:-150])
    path.write_bytes(buffer.getvalue())


def test_each_thread_hears_its_own() -> None:
    """All at the same time; each warns from the same line, of which Python would say it once."""
    together = threading.Barrier(8)

    def warn(number: int) -> list[str]:
        with heard() as said:
            together.wait()
            for text in (f"of {number}", "of all", "of all"):
                warnings.warn(text, stacklevel=1)
            together.wait()
        return said

    before = warnings.filters[:], warnings.showwarning
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(warn, range(8)))
    assert found == [[f"of {number}", "of all"] for number in range(8)]
    assert (warnings.filters, warnings.showwarning) == before


def test_who_does_not_listen_is_told_as_always() -> None:
    with pytest.warns(UserWarning, match="to all") as told, heard() as said:
        thread = threading.Thread(target=warnings.warn, args=("to all",))
        thread.start()
        thread.join()
    assert (len(told), said) == (1, [])


def test_within_one_another_and_after_an_error() -> None:
    before = warnings.filters[:], warnings.showwarning
    with pytest.raises(KeyError), heard() as outer:
        warnings.warn("before", stacklevel=1)
        with heard() as inner:
            warnings.warn("within", stacklevel=1)
        warnings.warn("after", stacklevel=1)
        raise KeyError
    assert (outer, inner) == (["before", "after"], ["within"])
    assert (warnings.filters, warnings.showwarning) == before


def test_a_picture_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    library_warnings._named.clear()
    for number in range(7):
        write_odd(tmp_path / f"{number}.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing but the log
        for number in range(7):
            read_picture(tmp_path / f"{number}.jpg")
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 5
    for number, text in enumerate(told):
        assert text.startswith(f"{tmp_path / f'{number}.jpg'}: ") and "tag 270" in text
    assert [text.endswith("are not named)") for text in told] == [False] * 4 + [True]


def test_an_error_is_raised(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ZeroDivisionError), naming_file(tmp_path):
        warnings.warn("of a file that cannot be read", stacklevel=1)
        raise ZeroDivisionError
    assert not caplog.records


@pytest.mark.parametrize(("options", "shown"), [([], False), (["-Wdefault"], True)])
def test_the_rest_is_not_for_people(options: list[str], shown: bool) -> None:
    """But for a person who asks Python for it."""
    code = (
        "import warnings\n"
        "from collabdesign.evaluate.library_warnings import keep_from_people\n"
        "keep_from_people()\n"
        "warnings.warn('of nobody knows which file')\n"
    )
    done = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, check=True
    )
    assert ("of nobody knows" in done.stderr) is shown
    assert done.stdout == ""


def test_the_rest_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings(), caplog.at_level(logging.INFO, "collabdesign"):
        warnings.simplefilter("always")
        library_warnings.keep_from_people()
        warnings.showwarning("said", DeprecationWarning, "there.py", 3)
    assert "DeprecationWarning: said (there.py:3)" in caplog.text or sys.warnoptions
