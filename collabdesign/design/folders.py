"""The classes in folders of images, by their names alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from collabdesign.design.files.units import few

# Left behind by archive tools and network drives, never a class.
STRAY_FOLDERS = frozenset({"__MACOSX", "@eaDir", "__pycache__"})


class Fault(NamedTuple):
    """What is wrong with what a key of ``data`` names."""

    key: str
    message: str
    hint: str


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
    elif train and test and set(train) != set(test):
        got = [
            f"{what} {few(sorted(ours - theirs))}"
            for what, ours, theirs in (
                ("none for", set(train), set(test)),
                ("further", set(test), set(train)),
            )
            if ours - theirs
        ]
        message = f"data.test must have the class folders of data.train, got {', '.join(got)}"
        faults.append(Fault("test", message, f"compare {folders['train']} with it"))
    return (len(train) if train else None), faults


def _class_folders(key: str, folder: str, faults: list[Fault]) -> list[str] | None:
    """Names of the class folders; None with a fault added where there are not two."""
    layout = os.path.join(folder, "CLASS", "picture.jpg")
    hint = f"put the pictures of each class into a folder of their own: {layout}"
    try:
        with os.scandir(folder) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if not entry.name.startswith(".")
                and entry.name not in STRAY_FOLDERS
                and entry.is_dir()
            )
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
