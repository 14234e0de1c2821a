"""What is called float32 is computed in float32, whatever the process has switched on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from collabdesign.evaluate.accuracy import evaluate
from collabdesign.evaluate.precision import full_float32

IMAGES = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
LABELS = torch.zeros(3, dtype=torch.int64)


def precisions() -> dict[str, str]:
    """How float32 is computed, by kind of kernel."""
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    if not hasattr(cuda.matmul, "fp32_precision"):
        return {
            "matmul": "tf32" if cuda.matmul.allow_tf32 else "ieee",
            "conv": "tf32" if cudnn.allow_tf32 else "ieee",
        }
    mkldnn = torch.backends.mkldnn
    return {
        "matmul": cuda.matmul.fp32_precision,
        "conv": cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        "cpu matmul": mkldnn.matmul.fp32_precision,  # type: ignore[attr-defined]
        "cpu conv": mkldnn.conv.fp32_precision,  # type: ignore[attr-defined]
    }


class Watching(nn.Module):
    """Notes how float32 is computed while it runs."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.seen: list[dict[str, str]] = []
        self.fails = fails

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(precisions())
        if self.fails:
            raise KeyError
        return x.mean((2, 3))


@pytest.fixture(params=["as torch comes", "high"])
def before(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Convolutions may use TF32 from the start; a person may have allowed it for all."""
    chosen = torch.get_float32_matmul_precision()
    if request.param == "high":
        torch.set_float32_matmul_precision("high")
    yield precisions()
    torch.set_float32_matmul_precision(chosen)


def test_an_accuracy_is_counted_in_full_float32(before: dict[str, str]) -> None:
    assert "tf32" in before.values()  # Else this test shows nothing.
    network = Watching()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(network, IMAGES, LABELS, mean=[0], std=[1])
    assert [set(seen.values()) for seen in network.seen] == [{"ieee"}]
    assert precisions() == before
    # Older code that reads or sets the older names is not refused by torch afterwards.
    assert torch.backends.cuda.matmul.allow_tf32 == (before["matmul"] == "tf32")
    assert torch.backends.cudnn.allow_tf32 == (before["conv"] == "tf32")


def test_the_process_is_as_before_after_an_error_and_within_another(
    before: dict[str, str],
) -> None:
    with full_float32():
        with pytest.raises(KeyError):
            evaluate(Watching(fails=True), IMAGES, LABELS, mean=[0], std=[1])
        assert set(precisions().values()) == {"ieee"}
    assert precisions() == before
