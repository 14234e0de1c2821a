"""``collabdesign detect``: the table of its commands, as :mod:`collabdesign.cli.main` has them."""

from __future__ import annotations

from pathlib import Path

import click

from collabdesign.cli.options import DEVICE, FILE, INTO, JSON, RUN, SET, THREADS

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
    "train": ("Train a detector on pictures in the format of COCO.", """
        Train the detector that FILE asks for, and judge it on its val pictures.

        All of both annotation files is checked first, and every picture decoded; exit code 2 lists
        all that is wrong. A part of train is held out, by which the best epoch is chosen; val is
        read once, at the end. The same command goes on from the last epoch.
    """, [FILE, INTO, SET, DEVICE, THREADS, JSON]),
    "eval": ("Average precision of a trained detector.", """
        Judge the trained detector in DIR on the val pictures of its file, or on others.
    """, [
        RUN,
        click.Option(["--annotations"], type=click.Path(path_type=Path), metavar="FILE",
                     help="Another COCO file with the same categories (default: val's)."),
        click.Option(["--images"], type=click.Path(path_type=Path), metavar="FOLDER",
                     help="Where its pictures lie (default: val's folder)."),
        DEVICE,
        THREADS,
        JSON,
    ]),
    "predict": ("What a trained detector finds in pictures.", """
        Draw boxes and masks of what the trained detector in DIR finds in each PICTURE.

        Writes a drawing of each picture and predictions.json, whose objects are as COCO's results.
    """, [
        RUN,
        click.Argument(["pictures"], nargs=-1, required=True, metavar="PICTURE...",
                       type=click.Path(path_type=Path)),
        click.Option(["--into"], type=click.Path(path_type=Path), default=Path("predictions"),
                     metavar="FOLDER", help="Where to write (default: predictions)."),
        click.Option(["--least"], type=click.FloatRange(0, 1), default=0.5, metavar="SCORE",
                     help="Score from which an object counts (default: 0.5)."),
        DEVICE,
        THREADS,
        JSON,
    ]),
    "export": ("A trained detector as ONNX.", """
        Write the trained detector in DIR as DIR/model.onnx, and compare it with torch.

        onnxruntime runs it on real pictures: the same labels, boxes to half a pixel, masks with an
        IoU over 0.99. Exit code 4 where something differs by more.
    """, [
        RUN,
        click.Option(["--format", "form"], required=True, type=click.Choice(["onnx"]),
                     help="What to write."),
        click.Option(["--picture", "pictures"], multiple=True, type=click.Path(path_type=Path),
                     metavar="PICTURE", help="To compare on; may be given several times (default: "
                     "20 pictures of the held-out part)."),
        JSON,
    ]),
}  # fmt: skip
