"""What a member sees in pictures, by the network itself or by one of its other forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from collabdesign.deliver.certificate import read_certificate
from collabdesign.deliver.export.export import torch_run
from collabdesign.deliver.export.formats import FORMATS, require_packages
from collabdesign.deliver.export.runtime import normalised
from collabdesign.deliver.member import load_variant, read_architecture
from collabdesign.design.exports import EXPORTS
from collabdesign.errors import InputError
from collabdesign.evaluate.data.pictures import read_picture
from collabdesign.evaluate.data.shown import fit_image

#: The network of ``weights.pt``, beside the keys of :data:`collabdesign.design.exports.EXPORTS`.
NETWORK = "network"


@dataclass(frozen=True)
class Prediction:
    """What is seen in one picture.

    Attributes:
        picture: Its file.
        classes: The most probable ones with their probabilities, the first first.
    """

    picture: Path
    classes: tuple[tuple[str, float], ...]


def predict(
    folder: Path, pictures: Sequence[Path], form: str = NETWORK, most: int = 5
) -> tuple[Prediction, ...]:
    """Classify pictures; nothing of the folder is run but its weights.

    Args:
        folder: Of a member.
        pictures: Files.
        form: ``network``, or a key of :data:`collabdesign.design.exports.EXPORTS` that the folder
            has.
        most: Classes of each picture.

    Raises:
        InputError: The folder is no member's, lacks the form, or a picture cannot be read.
    """
    certificate, architecture = read_certificate(folder), read_architecture(folder)
    if len(certificate.class_names) != architecture.classes:
        raise InputError(
            f"the certificate of {str(folder)!r} must name {architecture.classes} classes, and "
            f"names {len(certificate.class_names)}: it is of an earlier version, or was changed"
        )
    if form == NETWORK:
        run = torch_run(load_variant(folder))
    else:
        require_packages([form])
        path = folder / EXPORTS[form].file
        if not path.is_file():
            raise InputError(f"{str(folder)!r} has no {path.name}: collabdesign export writes it")
        run = FORMATS[form].run(path.read_bytes())
    found = []
    for picture in pictures:
        if not picture.is_file():
            raise InputError(f"a picture must be a file, got {str(picture)!r}")
        shown = read_picture(picture).image
        image = fit_image(shown, architecture.resolution, architecture.input_channels)
        pixels = np.asarray(image).reshape(1, *image.size[::-1], architecture.input_channels)
        images = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2)
        logits = torch.from_numpy(run(normalised(images, certificate.mean, certificate.std)))[0]
        best = logits.softmax(0).topk(min(most, len(logits)))
        names = [certificate.class_names[index] for index in best.indices.tolist()]
        found.append(Prediction(picture, tuple(zip(names, best.values.tolist(), strict=True))))
    return tuple(found)
