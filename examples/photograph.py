"""A photograph, blurred and noisy, as a least-squares problem for the command line.

The picture is one that matplotlib ships, so nothing is downloaded. Blur is a sparse matrix with one
row per pixel: 76 800 unknowns, too many to diagonalise, ill-conditioned without a ridge term, and
the result can be looked at.

    python examples/photograph.py blur FOLDER      writes blur.npz and blurred.npy
    python examples/photograph.py compare FOLDER   reads restored.npy, writes comparison.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import scipy.sparse as sparse
from matplotlib import cbook
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

WIDTH_OF_BLUR = 1.2  # standard deviation, in pixels
RADIUS = 3  # pixels beyond which it is cut off
NOISE = 0.003  # standard deviation; the picture's range is 0 to 1


def photograph() -> np.ndarray:
    """Grey picture of 300 × 256 pixels, values between 0 and 1."""
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        colours = matplotlib.image.imread(file, format="jpg") / 255
    grey = colours @ [0.299, 0.587, 0.114]
    # Means of 2 × 2 pixels.
    return (grey[:-1:2, ::2] + grey[1::2, ::2] + grey[:-1:2, 1::2] + grey[1::2, 1::2]) / 4


def blur_matrix(shape: tuple[int, int]) -> sparse.csr_array:
    """Gaussian blur of pictures of this shape, flattened; black outside."""
    offsets = np.arange(-RADIUS, RADIUS + 1)
    kernel = np.exp(-0.5 * (offsets / WIDTH_OF_BLUR) ** 2)
    kernel /= kernel.sum()
    rows, columns = (
        sparse.diags_array(kernel, offsets=offsets, shape=(length, length)) for length in shape
    )
    return sparse.csr_array(sparse.kron(rows, columns))


def blur(folder: Path) -> None:
    picture = photograph()
    matrix = blur_matrix(picture.shape)
    noise = NOISE * np.random.default_rng(0).standard_normal(picture.size)
    folder.mkdir(parents=True, exist_ok=True)
    sparse.save_npz(folder / "blur.npz", matrix, compressed=False)
    np.save(folder / "blurred.npy", matrix @ picture.ravel() + noise)
    print(f"{folder}: a blur of {matrix.shape[0]} pixels, {matrix.nnz} entries")


def compare(folder: Path) -> None:
    picture = photograph()
    shown = {
        "photograph": picture,
        "blurred and noisy": np.load(folder / "blurred.npy").reshape(picture.shape),
        "restored": np.load(folder / "restored.npy").reshape(picture.shape),
    }
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, image) in zip(figure.subplots(1, 3), shown.items(), strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        axes.set_axis_off()
        error = np.mean((image - picture) ** 2)
        quality = f", {-10 * np.log10(error):.2f} dB" if error else ""
        axes.set_title(title + quality)
        print(title + quality)
    figure.savefig(folder / "comparison.png", dpi=120)
    print(f"picture: {folder / 'comparison.png'}")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("blur", "compare"):
        sys.exit(__doc__)
    {"blur": blur, "compare": compare}[sys.argv[1]](Path(sys.argv[2]))
