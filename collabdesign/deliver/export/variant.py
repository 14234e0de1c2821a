"""Exporting a member that was handed over before: another form beside those it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from collabdesign.deliver.certificate import CERTIFICATE, Certificate, read_certificate
from collabdesign.deliver.export.export import Pictures
from collabdesign.deliver.export.formats import require_packages
from collabdesign.deliver.export.member import export_member, joined
from collabdesign.deliver.export.runtime import normalised
from collabdesign.deliver.exported import Exported
from collabdesign.deliver.member import load_variant, read_architecture
from collabdesign.deliver.readings import READINGS
from collabdesign.design.architecture import Architecture
from collabdesign.design.requirements import Requirements
from collabdesign.errors import InputError
from collabdesign.evaluate.data.decode import decode
from collabdesign.evaluate.data.folder import is_picture
from collabdesign.evaluate.data.images import TestData, load_data, load_test
from collabdesign.evaluate.data.pictures import raise_unreadable, read_picture
from collabdesign.evaluate.int8 import CALIBRATION_IMAGES
from collabdesign.files import write_json


def export_variant(
    folder: Path,
    names: Sequence[str],
    requirements: Requirements | None,
    calibrate: Path | None = None,
) -> tuple[Exported, ...]:
    """Write forms of a member into its folder, and their rows into its certificate.

    Args:
        folder: Of the member.
        names: Keys of :data:`collabdesign.design.exports.EXPORTS`.
        requirements: Whose data it was trained and judged on; None where that is not at hand: then
            ``calibrate`` is needed, and accuracies are not measured.
        calibrate: A folder with pictures, at any depth, to calibrate on; the train part where None.

    Raises:
        InputError: The folder is no member's, a package or the pictures are missing, the data are
            others, or an operation stands in the way.
    """
    require_packages(names)
    certificate, architecture = read_certificate(folder), read_architecture(folder)
    if not certificate.class_names:
        raise InputError(
            f"{str(folder)!r} was written by an earlier version, whose certificate lacks what is "
            "needed; its search command writes it anew"
        )
    own = None if calibrate is None else _from_folder(calibrate, certificate, architecture)
    test: TestData | None = None
    if requirements is not None:
        data = load_data(requirements.data)
        if data.fingerprint != certificate.data["train_and_select_sha256"]:
            raise InputError(
                "a member is exported with the images that it was trained on, and these are others"
            )
        pictures = Pictures.of(data)
        if own is not None:
            pictures = replace(pictures, calibration=own.calibration)
        test = load_test(requirements.data)
    elif own is not None:
        pictures = own
    else:
        raise InputError(
            "a form is compared with the network on pictures: name requirements with their data, "
            "or a folder to calibrate on"
        )
    ledger = folder.parent / READINGS
    if not ledger.is_file():  # it was taken out of its run
        ledger = folder / READINGS
    network = load_variant(folder)
    made = export_member(names, network, architecture, pictures, test, folder, ledger)
    exports = joined(certificate.exports, made)
    write_json(folder / CERTIFICATE, replace(certificate, exports=exports).to_dict())
    return made


def _from_folder(folder: Path, certificate: Certificate, architecture: Architecture) -> Pictures:
    """Pictures at any depth of a folder, evenly through it, to calibrate and to compare on."""
    found = sorted(each for each in folder.rglob("*") if is_picture(each.name) and each.is_file())
    if not found:
        raise InputError(f"the folder to calibrate on must hold pictures, {str(folder)!r} has none")
    steps = np.linspace(0, len(found) - 1, min(len(found), CALIBRATION_IMAGES)).astype(int)
    chosen = [found[step] for step in steps]
    side, channels = architecture.resolution, architecture.input_channels
    pixels = np.zeros((len(chosen), side, side, channels), np.uint8)
    (decoded,) = decode([lambda index: read_picture(chosen[index])], [pixels])
    raise_unreadable([(str(chosen[index]), reason) for index, reason in decoded.broken])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    mean, std = certificate.mean, certificate.std
    return Pictures(normalised(images, mean, std), images, None, mean, std)
