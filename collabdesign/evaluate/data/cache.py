"""Decoded pictures on disk: written once, mapped into memory by every later command and process.

An entry is two files, the pixels as they lie in memory and what was found of the pictures. Its
name is a digest of the files it was made from (names, sizes, times) and of the form it is in, so
that an entry never has to be changed: what no command uses any more can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import platformdirs

from collabdesign.evaluate.data.decode import Pixels
from collabdesign.evaluate.data.findings import Findings

VARIABLE = "COLLABDESIGN_CACHE"
"""Names the folder in the environment, as ``--cache`` does."""

# Entries of another form are not found.
_FORM = f"1 Pillow {PIL.__version__}"

_ABANDONED = 24 * 3600  # seconds after which a file that is still being written is nobody's


def cache_folder() -> Path:
    """Where decoded pictures are kept."""
    return Path(os.environ.get(VARIABLE) or platformdirs.user_cache_path("collabdesign"))


def entry_name(versions: Iterable[str], shape: tuple[int, ...]) -> str:
    """Of pictures in this order, decoded to an array of this shape."""
    digest = hashlib.sha256(f"{_FORM} {shape}\n".encode())
    digest.update("\n".join(versions).encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class Entry:
    """Decoded pictures.

    Attributes:
        pixels: [N, side, side, C], mapped from the file; not to be written to.
        findings: What was found of them.
        file: Of the pixels.
    """

    pixels: Pixels
    findings: Findings
    file: Path


@dataclass(frozen=True)
class Cache:
    """The folder of the entries; made where it is missing."""

    folder: Path

    def find(self, name: str, shape: tuple[int, ...]) -> Entry | None:
        """An entry that is there and whole."""
        file = self._pixels(name)
        try:
            if file.stat().st_size != np.prod(shape):
                return None
            with np.load(self._findings(name)) as arrays:
                findings = Findings.from_arrays(arrays)
            pixels = np.memmap(file, np.uint8, mode="r", shape=shape)
        # Not there, or damaged.
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return Entry(pixels, findings, file)

    @contextlib.contextmanager
    def writing(self, name: str, shape: tuple[int, ...]) -> Iterator[Pixels | None]:
        """Pixels to be filled, on disk; None where there is no room or no permission.

        Keep them with :meth:`keep` inside of the block; else they are gone after it.
        """
        temporary = self._temporary(name)
        pixels: Pixels | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
            if shutil.disk_usage(self.folder).free > 1.1 * np.prod(shape):
                pixels = np.memmap(temporary, np.uint8, mode="w+", shape=shape)
        except OSError:
            pixels = None
        try:
            yield pixels
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def keep(self, name: str, pixels: Pixels, findings: Findings) -> Entry | None:
        """Keep what :meth:`writing` gave, now that it is filled."""
        assert isinstance(pixels, np.memmap)
        pixels.flush()
        arrays = self._temporary(name).with_suffix(".findings")
        try:
            with arrays.open("wb") as file:
                np.savez(file, allow_pickle=False, **findings.to_arrays())
            arrays.replace(self._findings(name))
            self._temporary(name).replace(self._pixels(name))
        finally:
            arrays.unlink(missing_ok=True)
        return self.find(name, pixels.shape)

    def _pixels(self, name: str) -> Path:
        return self.folder / f"{name}.pixels"

    def _findings(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    def _temporary(self, name: str) -> Path:
        return self.folder / f"{name}.{os.getpid()}.writing"

    def _remove_abandoned(self) -> None:
        """What a process that was killed had begun."""
        for path in self.folder.glob("*.writing"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED:
                    path.unlink()
