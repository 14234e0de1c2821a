"""How long the networks of a comparison take for one image, in float32 and in int8."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version

import torch

from collabdesign.deliver.comparison import Comparison, Row
from collabdesign.evaluate.build import Buildable, build
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.int8 import untrained_int8_bytes
from collabdesign.evaluate.latency import RUNS, milliseconds, missing_packages
from collabdesign.evaluate.onnx_file import onnx_bytes

_Shape = tuple[int, int, int]


def with_times(
    rows: Sequence[Row], networks: Sequence[Buildable | None], before: Comparison | None
) -> tuple[str, list[Row]]:
    """The rows with their milliseconds, and what measured them.

    All are measured in turns with each other; those of an earlier comparison of the same networks
    on the same machine stand.

    Args:
        rows: Of the comparison.
        networks: One each; None where a row has none.
        before: The earlier comparison.
    """
    if missing := missing_packages():
        needed = f"not measured: needs {' and '.join(missing)}"
        return f"{needed}: pip install 'collabdesign[compare]'", list(rows)
    how = (
        f"onnxruntime {version('onnxruntime')}, processor time of one thread of "
        f"{platform.machine()} ({os.cpu_count()} cores), one image, median of {RUNS} runs "
        "in turns with the other networks; int8 is static, with per-channel weights"
    )
    measured = {each.network: each for each in before.rows} if before and before.onnx == how else {}
    if all(
        network is None or (row.network in measured and measured[row.network].onnx_ms is not None)
        for row, network in zip(rows, networks, strict=True)
    ):
        return how, [_timed_as(row, measured.get(row.network)) for row in rows]
    given = [network for network in networks if network is not None]
    if not given:
        return how, list(rows)
    shape = (given[0].input_channels, given[0].resolution, given[0].resolution)
    models: dict[int, bytes] = {}
    notes: dict[int, list[str]] = {}
    for index, network in enumerate(networks):
        if network is not None:
            try:
                models[index] = _model(network, shape)
            except torch.onnx.OnnxExporterError as error:
                notes[index] = [f"time not measured: {str(error).splitlines()[0]}"]
    quantised, failed = _each(models, lambda model: untrained_int8_bytes(model, shape))
    for index, why in failed.items():
        notes.setdefault(index, []).append(f"time in int8 not measured: {why}")
    float32 = dict(zip(models, milliseconds(list(models.values()), shape), strict=True))
    int8 = dict(zip(quantised, milliseconds(list(quantised.values()), shape), strict=True))
    timed = []
    for index, row in enumerate(rows):
        if (time := float32.get(index)) is not None:
            row = replace(row, onnx_ms=time.median, onnx_ms_quartiles=(time.low, time.high))
        if (time := int8.get(index)) is not None:
            row = replace(
                row, onnx_int8_ms=time.median, onnx_int8_ms_quartiles=(time.low, time.high)
            )
        note = "; ".join(filter(None, (row.note, *notes.get(index, []))))
        timed.append(replace(row, note=note))
    return how, timed


def _model(network: Buildable, shape: _Shape) -> bytes:
    built = build(network)
    initialise(built, 0)
    return onnx_bytes(built, shape)


def _each(
    models: dict[int, bytes], change: Callable[[bytes], bytes]
) -> tuple[dict[int, bytes], dict[int, str]]:
    """What became of each model, and why nothing did."""
    changed, failed = {}, {}
    for index, model in models.items():
        try:
            changed[index] = change(model)
        except Exception as error:  # onnxruntime's quantiser raises nearly anything
            failed[index] = str(error).splitlines()[0] if str(error) else type(error).__name__
    return changed, failed


def _timed_as(row: Row, other: Row | None) -> Row:
    if other is None:
        return row
    return replace(
        row,
        onnx_ms=other.onnx_ms,
        onnx_ms_quartiles=other.onnx_ms_quartiles,
        onnx_int8_ms=other.onnx_int8_ms,
        onnx_int8_ms_quartiles=other.onnx_int8_ms_quartiles,
    )
