"""A gallery of fixed-point maps: graphs, decisions, transport, networks, pictures, regressions.

Each member takes a random generator and makes a map with a start and an independent solution:
``GALLERY["pagerank"](np.random.default_rng(0))``.
"""

from gallery.base import GALLERY, GalleryMap

__all__ = ["GALLERY", "GalleryMap"]
