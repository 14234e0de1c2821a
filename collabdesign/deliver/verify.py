"""Everything that a member's certificate says, measured anew.

Of the folder nothing is run: weights are read as tensors, forms by the runtime that they are for.
``model.py`` is compared as a text; it is run where a person asks for that alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from collabdesign.deliver.certificate import Certificate, read_certificate
from collabdesign.deliver.counters import counts_of
from collabdesign.deliver.export.export import torch_run
from collabdesign.deliver.export.formats import FORMATS
from collabdesign.deliver.export.parity import parity
from collabdesign.deliver.export.runtime import logits_of, normalised, share_right
from collabdesign.deliver.exported import TOLERANCE, Exported
from collabdesign.deliver.member import load_variant, read_architecture
from collabdesign.deliver.model_py import model_py_logits, text_difference
from collabdesign.deliver.source import check_value
from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import MEASURED, cost_of
from collabdesign.design.exports import EXPORTS
from collabdesign.design.requirements import LIMITS, Requirements
from collabdesign.errors import InputError
from collabdesign.evaluate.accuracy import evaluate
from collabdesign.evaluate.data.images import ImageData, TestData, load_data, load_test
from collabdesign.evaluate.latency import missing_packages
from collabdesign.evaluate.network import AttoNet

#: Where there is no figure.
NOTHING = "\N{EN DASH}"

#: On another processor or with another torch, rounding may decide another class for as many.
TOLERATED = "2 images, or 0.05 % of them where that is more"

_MODEL_IMAGES = 16


@dataclass(frozen=True)
class Check:
    """One figure.

    Attributes:
        what: It is of.
        recorded: By the certificate, in words.
        found: Now, in words.
        agrees: Whether these are the same; None where it was not measured.
        note: Why not, or what that means.
    """

    what: str
    recorded: str
    found: str
    agrees: bool | None
    note: str = ""


@dataclass(frozen=True)
class Verification:
    """What became of all figures.

    Attributes:
        name: Of the member.
        checks: In the order in which they were made.
    """

    name: str
    checks: tuple[Check, ...]

    @property
    def differing(self) -> tuple[Check, ...]:
        """Those that do not agree."""
        return tuple(each for each in self.checks if each.agrees is False)


def verify(
    folder: Path,
    requirements: Requirements | None,
    *,
    run_model_py: bool = False,
    on_check: Callable[[Check], None] = lambda check: None,
) -> Verification:
    """Measure everything anew.

    Test is read once more by this, which the certificate does not count: nothing is chosen by it.

    Args:
        folder: Of a member.
        requirements: Whose data it was trained and judged on; None leaves out what needs data.
        run_model_py: Whether to run the folder's ``model.py``, in a process of its own.
        on_check: Called with each check as soon as it is made.

    Raises:
        InputError: The folder is no member's, or the data cannot be read.
    """
    certificate = read_certificate(folder)
    checks = []
    for check in _checks(folder, certificate, requirements, run_model_py):
        checks.append(check)
        on_check(check)
    return Verification(certificate.name, tuple(checks))


def _checks(
    folder: Path, certificate: Certificate, requirements: Requirements | None, run_model_py: bool
) -> Iterator[Check]:
    try:
        architecture = read_architecture(folder)
    except InputError as error:
        yield Check("architecture.json", certificate.architecture, "broken", False, str(error))
        return
    found = architecture.id
    yield Check("architecture", certificate.architecture, found, found == certificate.architecture)
    yield _file("weights.pt", folder, certificate.weights_sha256)
    yield _model_py(folder, certificate, architecture)
    yield from _counts(certificate, architecture)
    try:
        network = load_variant(folder)
    except InputError as error:
        yield Check("the network", "of these weights", "cannot be built", False, str(error))
        return
    yield _check_value(certificate, architecture, network)
    for exported in certificate.exports:
        yield _file(exported.file, folder, exported.sha256)
    if requirements is None:
        why = "no data was given"
        yield Check("accuracies", f"{certificate.test_accuracy:.2%} on test", NOTHING, None, why)
        if run_model_py:
            yield _run_model_py(folder, architecture, network, None)
        return
    data = load_data(requirements.data)
    if run_model_py:
        yield _run_model_py(folder, architecture, network, data)
    recorded = str(certificate.data["train_and_select_sha256"])
    learnt = _same_images("train and held-out images", recorded, data.fingerprint)
    yield learnt
    if learnt.agrees:
        yield from _select_accuracy(certificate, network, data)
        if certificate.exports:
            ours = logits_of(torch_run(network), data.select_images, data.mean, data.std)
            for exported in certificate.exports:
                yield from _form_on_select(folder, exported, ours, data)
    test = load_test(requirements.data)
    recorded = str(certificate.data["test_sha256"])
    judged = _same_images("test images", recorded, test.fingerprint)
    yield judged
    if learnt.agrees and judged.agrees:
        yield from _on_test(folder, certificate, network, data, test)


# -- files ------------------------------------------------------------------------------------


def _file(name: str, folder: Path, sha256: str) -> Check:
    recorded = f"sha256 {sha256[:12]}"
    if not (folder / name).is_file():
        return Check(name, recorded, "missing", False)
    found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    note = "" if found == sha256 else "this is not the file that was written"
    return Check(name, recorded, f"sha256 {found[:12]}", found == sha256, note)


def _model_py(folder: Path, certificate: Certificate, architecture: Architecture) -> Check:
    """Whether ``model.py`` is what was written, and else its first line that is not."""
    if not certificate.model_sha256 or certificate.check_value is None:
        why = "the certificate is of an earlier version, which did not record it"
        return Check("model.py", NOTHING, NOTHING, None, why)
    check = _file("model.py", folder, certificate.model_sha256)
    if check.found == "missing":
        return check
    line = text_difference(folder, certificate, architecture)
    if check.agrees and line:
        line = f"as it was written, but this version writes another text: {line}"
    return replace(check, note=line)


def _run_model_py(
    folder: Path, architecture: Architecture, network: AttoNet, data: ImageData | None
) -> Check:
    """What ``model.py`` computes, beside the network."""
    what, recorded = "model.py, run", "logits of the network"
    if data is not None:
        pictures = normalised(data.select_images[:_MODEL_IMAGES], data.mean, data.std)
    else:
        side = architecture.resolution
        shape = (_MODEL_IMAGES, architecture.input_channels, side, side)
        pictures = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    try:
        theirs = model_py_logits(folder, pictures)
    except InputError as error:
        return Check(what, recorded, NOTHING, False, str(error))
    ours = torch_run(network)(pictures)
    if theirs.shape != ours.shape:
        return Check(what, recorded, f"of shape {theirs.shape}, not {ours.shape}", False)
    found = parity(ours, theirs)
    found_words = f"differ by at most {found.largest_difference:.2g}"
    return Check(what, recorded, found_words, found.is_rounding)


# -- counts -----------------------------------------------------------------------------------


def _counts(certificate: Certificate, architecture: Architecture) -> Iterator[Check]:
    recorded = f"{certificate.cost.macs:,} MACs, {certificate.cost.params:,} params"
    for each in counts_of(architecture):
        found = f"{each.macs:,} MACs, {each.params:,} params"
        yield Check(f"counted by {each.counter}", recorded, found, found == recorded, each.note)
    cost = cost_of(architecture, certificate.precision)
    for row in certificate.requirements:
        if row.name in MEASURED:
            why = "measured of the untrained network on the machine of the search"
            yield Check(f"limit {row.name}", f"{row.value:,}, {_met(row.met)}", NOTHING, None, why)
        elif row.name in LIMITS:
            value, met = cost[row.name], cost[row.name] <= row.required
            yield Check(
                f"limit {row.name}, at most {row.required:,}",
                f"{row.value:,}, {_met(row.met)}",
                f"{value:,}, {_met(met)}",
                (value, met) == (row.value, row.met),
            )


def _met(met: bool) -> str:
    return "met" if met else "not met"


def _check_value(certificate: Certificate, architecture: Architecture, network: AttoNet) -> Check:
    value = check_value(network, architecture.input_channels, architecture.resolution)
    recorded = certificate.check_value
    if recorded is None:
        return Check("check value", NOTHING, f"{value:.6f}", None, "not recorded by that version")
    close = abs(value - recorded) <= TOLERANCE * max(1.0, abs(recorded))
    return Check("check value", f"{recorded:.6f}", f"{value:.6f}", close)


# -- accuracies -------------------------------------------------------------------------------


def _same_images(what: str, recorded: str, found: str) -> Check:
    note = "" if recorded == found else "the images are others: no accuracies on them are compared"
    return Check(what, f"sha256 {recorded[:12]}", f"sha256 {found[:12]}", recorded == found, note)


def _select_accuracy(
    certificate: Certificate, network: AttoNet, data: ImageData
) -> Iterator[Check]:
    found = evaluate(network, data.select_images, data.select_labels, mean=data.mean, std=data.std)
    seeds = certificate.seeds
    recorded = certificate.select_accuracies[seeds.index(certificate.delivered_seed)]
    yield _accuracy("held-out accuracy", recorded, found, len(data.select_labels))


def _form_on_select(
    folder: Path, exported: Exported, ours: NDArray[np.float32], data: ImageData
) -> Iterator[Check]:
    """A form beside the network, on the held-out part."""
    facts, what = EXPORTS[exported.format], f"{exported.file}, held-out accuracy"
    if exported.select_accuracy is None:
        yield Check(what, NOTHING, NOTHING, None, "it was exported without the data")
        return
    if missing := missing_packages(facts.needs):
        yield Check(what, f"{exported.select_accuracy:.2%}", NOTHING, None, f"needs {missing[0]}")
        return
    try:
        run = FORMATS[exported.format].run((folder / exported.file).read_bytes())
        theirs = logits_of(run, data.select_images, data.mean, data.std)
    except Exception as error:  # a changed file: runtimes raise nearly anything
        yield Check(what, f"{exported.select_accuracy:.2%}", "does not run", False, str(error))
        return
    share = share_right(theirs, data.select_labels)
    yield _accuracy(what, exported.select_accuracy, share, len(data.select_labels))
    found = parity(ours, theirs)
    if exported.precision == "float32":
        yield Check(
            f"{exported.file}, beside the network",
            f"{exported.parity.same_decisions:,} of {exported.parity.images:,} images alike",
            f"{found.same_decisions:,} of {found.images:,} images alike",
            found.is_rounding,
            f"logits differ by at most {found.largest_difference:.2g}",
        )


def _on_test(
    folder: Path, certificate: Certificate, network: AttoNet, data: ImageData, test: TestData
) -> Iterator[Check]:
    images = len(test.labels)
    found = evaluate(network, test.images, test.labels, mean=data.mean, std=data.std)
    yield _accuracy("test accuracy", certificate.test_accuracy, found, images)
    by_goal = {"accuracy": found}
    for exported in certificate.exports:
        recorded, what = exported.test_accuracy, f"{exported.file}, test accuracy"
        if recorded is None or missing_packages(EXPORTS[exported.format].needs):
            continue
        try:
            run = FORMATS[exported.format].run((folder / exported.file).read_bytes())
        except Exception as error:  # as above
            yield Check(what, f"{recorded:.2%}", "does not run", False, str(error))
            continue
        share = share_right(logits_of(run, test.images, data.mean, data.std), test.labels)
        yield _accuracy(what, recorded, share, images)
        if exported.format == "int8":
            by_goal["accuracy_int8"] = share
    for row in certificate.requirements:
        if row.at_least and row.name in by_goal:
            value = by_goal[row.name]
            close = _within(row.value, value, images)
            yield Check(
                f"goal {row.name}, at least {row.required:.2%}",
                f"{row.value:.2%}, {_met(row.met)}",
                f"{value:.2%}, {_met(value >= row.required)}",
                close and row.met == (row.value >= row.required),
            )


def _accuracy(what: str, recorded: float, found: float, images: int) -> Check:
    close = _within(recorded, found, images)
    note = "" if close else f"more than {TOLERATED}"
    return Check(what, f"{recorded:.2%}", f"{found:.2%} of {images:,}", close, note)


def _within(recorded: float, found: float, images: int) -> bool:
    return abs(recorded - found) * images <= max(2.0, 0.0005 * images) + 1e-6
