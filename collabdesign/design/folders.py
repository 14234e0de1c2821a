"""The classes in folders of images, by their names alone."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from collabdesign.design.files.units import few

# Left behind by archive tools and network drives, never a class.
_STRAY_FOLDERS = frozenset({"__MACOSX", "@eaDir", "__pycache__"})


class Fault(NamedTuple):
    """What is wrong with what a key of ``data`` names."""

    key: str
    message: str
    hint: str


def is_class(entry: os.DirEntry[str] | Path) -> bool:
    """Whether an entry of a folder of images is the folder of a class."""
    name = entry.name
    if name.startswith(".") or name in _STRAY_FOLDERS:
        return False
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def class_name(folder: str) -> str:
    """The name of a class from that of its folder, in one form of Unicode: an accent is a letter
    of its own in names that a Mac wrote."""
    return unicodedata.normalize("NFC", folder)


def look_into(
    folders: Mapping[str, str], data: Mapping[str, Any]
) -> tuple[int | None, list[Fault]]:
    """Count the class folders of ``train``, and compare those of ``test``, where it is a folder.

    Args:
        folders: Absolute paths by key.
        data: As it is written.

    Returns:
        The number of classes, None where that cannot be told, and all that is wrong.
    """
    faults: list[Fault] = []
    names = {key: _class_folders(key, folder, faults) for key, folder in folders.items()}
    train, test = names.get("train"), names.get("test")
    if train and test and os.path.samefile(folders["train"], folders["test"]):
        message = f"data.test must be another folder than data.train, got {folders['test']}"
        hint = "write a fraction such as 0.2 to put a part of data.train aside as test"
        faults.append(Fault("test", message, hint))
    elif train and test and (got := differing(train, test, may_lack(data))):
        message = f"data.test must have the class folders of data.train, got {got}"
        hint = f"compare {folders['train']} with it"
        if not differing(train, test, True):
            hint += ", or write `test_may_lack_classes: true` under data"
        faults.append(Fault("test", message, hint))
    return (len(train) if train else None), faults


def may_lack(data: Mapping[str, Any]) -> bool:
    """Whether the test part may lack classes."""
    return data.get("test_may_lack_classes") is True


def differing(train: Iterable[str], test: Iterable[str], may_lack: bool = False) -> str:
    """Which classes test lacks, unless it may, and which it has beside those of train; empty where
    none."""
    odd = {"none for": set(train) - set(test), "further": set(test) - set(train)}
    if may_lack:
        del odd["none for"]
    return ", ".join(f"{words} {few(sorted(names))}" for words, names in odd.items() if names)


def _class_folders(key: str, folder: str, faults: list[Fault]) -> list[str] | None:
    """Names of the class folders; None with a fault added where there are not two."""
    layout = os.path.join(folder, "CLASS", "picture.jpg")
    hint = f"put the pictures of each class into a folder of their own: {layout}"
    try:
        with os.scandir(folder) as entries:
            names = sorted(class_name(entry.name) for entry in entries if is_class(entry))
    except FileNotFoundError:
        message = f"data.{key} must be a folder that exists, got {folder}"
        hint = f"correct the path, or put the images there as {layout}"
        if key == "test":
            hint += "; a fraction of data.train is written as 0.2"
    except OSError as error:
        message = f"data.{key} must be a folder of images, got {folder}: {error.strerror}"
    else:
        if len(names) > 1:
            return names
        got = f"only {names[0]}" if names else "none"
        message = f"data.{key} must have at least two class folders, got {got} in {folder}"
    faults.append(Fault(key, message, hint))
    return None
