"""Real photographs, from the wheel of scikit-image: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from stepfold._checks import check_array, check_items, check_size
from stepfold._extras import not_installed
from stepfold._typing import FloatArray

TRAINING = ("astronaut", "chelsea", "rocket", "coins")
HELD_OUT = ("camera", "coffee", "moon")


def photographs(names: Sequence[str]) -> list[FloatArray]:
    """Grey photographs with values from 0 to 1, at half the size that scikit-image ships.

    Each has the shape (height, width).

    Raises:
        ModuleNotFoundError: If scikit-image is not installed.
        ValueError: If it has no such photograph.
    """
    try:
        from skimage import data
    except ModuleNotFoundError as error:
        need = "the photographs are those of scikit-image"
        raise not_installed(need, "photographs", error) from error
    for name in names:
        if name not in (*TRAINING, *HELD_OUT):
            raise ValueError(
                f"`names` must be among {', '.join((*TRAINING, *HELD_OUT))}, got {name!r}"
            )
    return [_grey_half(np.asarray(getattr(data, name)())) for name in names]


class Patches:
    """Square patches at random places of pictures, float32.

    Args:
        pictures: Grey pictures with values from 0 to 1.
        side: Rows and columns of a patch.
        batch_size: Patches in a batch.
        least: The smallest side that serves.

    Raises:
        ValueError: If a number is out of range, or a picture is smaller than a patch.
    """

    def __init__(
        self, pictures: Sequence[FloatArray], side: int, batch_size: int, *, least: int
    ) -> None:
        pictures = [
            check_array("pictures", each) for each in check_items("pictures", pictures, "arrays")
        ]
        if not pictures or any(picture.ndim != 2 or picture.size == 0 for picture in pictures):
            raise ValueError("`pictures` must hold matrices, at least one, each with a pixel")
        smallest = min(min(picture.shape) for picture in pictures)
        if not least <= check_size("side", side) <= smallest:
            raise ValueError(
                f"`side` must be at least {least} and at most the smallest side of a picture, "
                f"{smallest}, got {side}"
            )
        self._pictures = [picture.astype(np.float32) for picture in pictures]
        self.side, self.batch_size = side, check_size("batch_size", batch_size)

    def draw(self, rng: np.random.Generator) -> Iterator[FloatArray]:
        """The patches of a batch, each drawn when it is asked for."""
        for index in rng.integers(len(self._pictures), size=self.batch_size):
            picture = self._pictures[index]
            row, column = (rng.integers(length - self.side + 1) for length in picture.shape)
            yield picture[row : row + self.side, column : column + self.side]


def _grey_half(picture: np.ndarray) -> FloatArray:
    grey = picture / 255
    if grey.ndim == 3:
        grey = grey[..., :3] @ [0.299, 0.587, 0.114]
    rows, columns = (side // 2 for side in grey.shape)
    halves = grey[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
    mean: FloatArray = halves.mean((1, 3))
    return mean
