"""What is known of a form to export without torch; :mod:`collabdesign.deliver.export.formats`
writes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExportFacts:
    """One form of a finished network that another runtime reads.

    Attributes:
        help: What it is.
        file: Its name in a member's folder.
        precision: Of its weights, and of the tensors between its layers.
        runtime: What runs it here.
        needs: Packages to install.
        extra: Of collabdesign, which installs them.
        is_usual: Whether it is written where a person names none and the packages are there.
    """

    help: str
    file: str
    precision: str
    runtime: str
    needs: tuple[str, ...]
    extra: str
    is_usual: bool


EXPORTS: dict[str, ExportFacts] = {
    "onnx": ExportFacts(
        "ONNX in float32",
        "model.onnx",
        "float32",
        "onnxruntime",
        ("onnx", "onnxruntime"),
        "export",
        True,
    ),
    "int8": ExportFacts(
        "ONNX in int8, static, calibrated on the train part",
        "model.int8.onnx",
        "int8",
        "onnxruntime",
        ("onnx", "onnxruntime"),
        "export",
        True,
    ),
    "executorch": ExportFacts(
        "ExecuTorch in float32, by XNNPACK",
        "model.pte",
        "float32",
        "executorch",
        ("executorch",),
        "executorch",
        False,
    ),
}
"""The same keys stand in ``deliver.export.formats.FORMATS``."""
