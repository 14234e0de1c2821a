"""``collabdesign detect``: the table of its commands, as :mod:`collabdesign.cli.main` has them."""

from __future__ import annotations

import click

from collabdesign.cli.options import FILE, JSON, SET

SHORT, LONG = (
    "A Mask R-CNN on one of your networks.",
    """
        An AttoNet as the body of a Mask R-CNN: boxes and masks of objects in pictures.

        You write the detector and name pictures in the format of COCO. `cost` needs neither
        weights nor pictures.
    """,
)

# A command, its file here (detect_NAME) and the function in it -> as in COMMANDS.
COMMANDS: dict[str, tuple[str, str, list[click.Parameter]]] = {
    "cost": ("What a detector costs, part by part.", """
        Count the multiply-adds, parameters and peak activation of the detector in FILE.

        FILE is a detector file, or a detection file that names one. It is told part by part,
        beside Mask R-CNNs on ResNet-50 and MobileNet-V3-large, counted the same way at the same
        picture, proposals and detections. Nothing is built, trained or downloaded.
    """, [
        FILE,
        SET,
        click.Option(["--size"], metavar="HEIGHTxWIDTH",
                     help="Of the picture after resizing, such as 800x1333 (default: the "
                     "detector's shorter and longer side)."),
        click.Option(["--proposals"], type=click.IntRange(1), metavar="N",
                     help="On which the box head runs (default: the detector's)."),
        click.Option(["--detections"], type=click.IntRange(1), metavar="N",
                     help="On which the mask head runs (default: the detector's)."),
        click.Option(["--classes"], type=click.IntRange(2), default=91, metavar="N",
                     help="The background included (default: 91, as for COCO)."),
        JSON,
    ]),
}  # fmt: skip
