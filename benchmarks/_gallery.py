"""The maps that the tests share."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from gallery import GALLERY, GalleryMap
from gallery.mixtures import mixture_map, mixture_samples

__all__ = ["GALLERY", "GalleryMap", "mixture_map", "mixture_samples"]
