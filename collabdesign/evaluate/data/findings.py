"""What was found of the pictures of a part while they were decoded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collabdesign.evaluate.data.decode import DIGEST, Found, Pixels

_NAMED = 5
_AT_ONCE = 4096


@dataclass(frozen=True)
class Findings:
    """Of all pictures of a part.

    Attributes:
        digests: uint8 [N, 16], of all pixels of each picture as it is shown.
        thumbs: uint8 [N, 8, 9], grey.
        values: int64 [C, 256], how many of the pixels that are kept have each value.
        sizes: Pictures by (width, height), the most frequent first.
        modes: Pictures by PIL's mode, likewise.
        animated: How many have more frames than the one that counts.
        first_animated: Positions of a few of these.
        profiles: Pictures by the name of a wide colour profile.
    """

    digests: Pixels
    thumbs: Pixels
    values: NDArray[np.int64]
    sizes: Mapping[tuple[int, int], int]
    modes: Mapping[str, int]
    animated: int
    first_animated: tuple[int, ...]
    profiles: Mapping[str, int]

    @classmethod
    def of(cls, found: Sequence[Found | None], thumbs: Pixels, pixels: Pixels) -> Findings:
        """From what was found of each picture; those that cannot be read count nowhere."""
        digests = b"".join(bytes(DIGEST) if each is None else each.digest for each in found)
        animated = [number for number, each in enumerate(found) if each and each.is_animated]
        read = [each for each in found if each is not None]
        return cls(
            digests=np.frombuffer(digests, np.uint8).reshape(-1, DIGEST),
            thumbs=thumbs,
            values=value_counts(pixels),
            sizes=dict(Counter(each.size for each in read).most_common()),
            modes=dict(Counter(each.mode for each in read).most_common()),
            animated=len(animated),
            first_animated=tuple(animated[:_NAMED]),
            profiles=dict(Counter(each.profile for each in read if each.profile).most_common()),
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """For :func:`numpy.savez`."""
        words = {
            "sizes": [[*size, count] for size, count in self.sizes.items()],
            "modes": dict(self.modes),
            "animated": self.animated,
            "first_animated": self.first_animated,
            "profiles": dict(self.profiles),
        }
        text = np.frombuffer(json.dumps(words).encode(), np.uint8)
        return {
            "digests": self.digests,
            "thumbs": self.thumbs,
            "values": self.values,
            "words": text,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Findings:
        """What :meth:`to_arrays` gave."""
        words = json.loads(arrays["words"].tobytes())
        return cls(
            digests=arrays["digests"],
            thumbs=arrays["thumbs"],
            values=arrays["values"],
            sizes={(width, height): count for width, height, count in words["sizes"]},
            modes=words["modes"],
            animated=words["animated"],
            first_animated=tuple(words["first_animated"]),
            profiles=words["profiles"],
        )


def value_counts(pixels: Pixels) -> NDArray[np.int64]:
    """How many pixels [N, H, W, C] have each value, [C, 256]; a few pictures at a time."""
    counts = np.zeros((pixels.shape[-1], 256), np.int64)
    for start in range(0, len(pixels), _AT_ONCE):
        part = pixels[start : start + _AT_ONCE]
        for channel, row in enumerate(counts):
            row += np.bincount(part[..., channel].ravel(), minlength=256)
    return counts


def channel_statistics(
    values: NDArray[np.int64],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, pixels running from 0 to 1.

    Args:
        values: As :func:`value_counts` gives them, so that the sums are exact. A channel that
            never changes has standard deviation 1, so that dividing by it is safe.
    """
    scale = np.arange(256) / 255
    means, stds = [], []
    for counts in values:
        shares = counts / counts.sum()
        mean = float(shares @ scale)
        means.append(mean)
        stds.append(float(shares @ (scale - mean) ** 2) ** 0.5 or 1.0)
    return tuple(means), tuple(stds)
