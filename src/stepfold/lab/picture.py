"""Pictures as data, side by side: for experiments on blurred photographs and the like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stepfold._codec import JsonRecord
from stepfold.lab.figure import check_name

# A report of many pictures should stay small enough to be sent by mail.
LARGEST_SIDE = 512


@dataclass(frozen=True, eq=False)
class Image(JsonRecord):
    """A grey picture with a caption.

    Args:
        label: The caption.
        pixels: Values from 0 (black) to 255 (white), uint8, shape (height, width).

    Raises:
        ValueError: If a side is longer than 512 pixels, or the array is not of this kind.

    >>> Image("black", np.zeros((2, 3), np.uint8)).pixels.shape
    (2, 3)
    """

    label: str
    pixels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        pixels = np.array(self.pixels)
        if pixels.dtype != np.uint8:
            raise ValueError(
                f"`pixels` must be of dtype uint8, got {pixels.dtype} for {self.label!r}; "
                "make them with `Image.from_values`"
            )
        if pixels.ndim != 2 or not 1 <= min(pixels.shape) <= max(pixels.shape) <= LARGEST_SIDE:
            raise ValueError(
                f"`pixels` must have two sides of 1 to {LARGEST_SIDE}, got shape {pixels.shape} "
                f"for {self.label!r}; take every second one, or a part"
            )
        pixels.flags.writeable = False
        object.__setattr__(self, "pixels", pixels)

    @classmethod
    def from_values(
        cls, label: str, values: Any, *, lower: float = 0.0, upper: float = 1.0
    ) -> Image:
        """Make an image from numbers: ``lower`` becomes black, ``upper`` white, beyond is cut off.

        Raises:
            ValueError: If a value is not finite, or ``lower`` is not below ``upper``.

        >>> Image.from_values("ramp", [[0.0, 0.5, 1.0, 7.0]]).pixels
        array([[  0, 128, 255, 255]], dtype=uint8)
        """
        array = np.asarray(values, dtype=np.float64)
        if not lower < upper:
            raise ValueError(f"`lower` must be below `upper`, got {lower!r} and {upper!r}")
        if not np.isfinite(array).all():
            raise ValueError(f"`values` must be finite, got NaN or infinity for {label!r}")
        scaled = (np.clip(array, lower, upper) - lower) / (upper - lower)
        return cls(label, np.rint(255 * scaled).astype(np.uint8))


@dataclass(frozen=True, eq=False)
class Pictures(JsonRecord):
    """Images side by side.

    Args:
        name: Stem of the file's name.
        title: What is shown.
        alt: One sentence for readers who do not see the pictures.
        images: At least one.

    Raises:
        ValueError: If there is no image, or ``name`` is not fit for a file.

    >>> image = Image("black", np.zeros((2, 3), np.uint8))
    >>> len(Pictures("p", "A title", "A black square.", (image,)).images)
    1
    """

    tag: ClassVar = ("kind", "pictures")

    name: str
    title: str
    alt: str
    images: tuple[Image, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", tuple(self.images))
        check_name(self.name)
        if not self.images:
            raise ValueError("`images` must hold at least one image, got none")

    def _repr_png_(self) -> bytes:
        """The drawing, for notebooks."""
        from stepfold.lab._matplotlib import to_bytes

        return to_bytes(self, "png")
