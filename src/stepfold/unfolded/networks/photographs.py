"""Real photographs, from the wheel of scikit-image: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepfold._typing import FloatArray

TRAINING = ("astronaut", "chelsea", "rocket", "coins")
HELD_OUT = ("camera", "coffee", "moon")


def photographs(names: Sequence[str]) -> list[FloatArray]:
    """Grey photographs with values from 0 to 1, at half the size that scikit-image ships.

    Raises:
        ModuleNotFoundError: If scikit-image is not installed.
        ValueError: If it has no such photograph.
    """
    try:
        from skimage import data
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the photographs are those of scikit-image, which is not installed; install it with "
            "`pip install 'stepfold[photographs]'`",
            name=error.name,
        ) from error
    for name in names:
        if name not in (*TRAINING, *HELD_OUT):
            raise ValueError(
                f"`names` must be among {', '.join((*TRAINING, *HELD_OUT))}, got {name!r}"
            )
    return [_grey_half(np.asarray(getattr(data, name)())) for name in names]


def _grey_half(picture: np.ndarray) -> FloatArray:
    grey = picture / 255
    if grey.ndim == 3:
        grey = grey[..., :3] @ [0.299, 0.587, 0.114]
    rows, columns = (side // 2 for side in grey.shape)
    halves = grey[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
    mean: FloatArray = halves.mean((1, 3))
    return mean
