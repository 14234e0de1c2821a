"""The classes in folders of images, by their names alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

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
    return not name.startswith(".") and name not in _STRAY_FOLDERS and entry.is_dir()


def look_into(folders: Mapping[str, str]) -> tuple[int | None, list[Fault]]:
    """Count the class folders of ``train``, and compare those of ``test``, where it is a folder.

    Args:
        folders: Absolute paths by key.

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
    elif train and test and (got := differing(train, test)):
        message = f"data.test must have the class folders of data.train, got {got}"
        faults.append(Fault("test", message, f"compare {folders['train']} with it"))
    return (len(train) if train else None), faults


def differing(train: Iterable[str], test: Iterable[str]) -> str:
    """Which classes test lacks, and which it has beside those of train; empty where none."""
    odd = {"none for": set(train) - set(test), "further": set(test) - set(train)}
    return ", ".join(f"{words} {few(sorted(names))}" for words, names in odd.items() if names)


def _class_folders(key: str, folder: str, faults: list[Fault]) -> list[str] | None:
    """Names of the class folders; None with a fault added where there are not two."""
    layout = os.path.join(folder, "CLASS", "picture.jpg")
    hint = f"put the pictures of each class into a folder of their own: {layout}"
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if is_class(entry))
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
