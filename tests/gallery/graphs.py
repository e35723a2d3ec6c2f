"""Maps on graphs: consensus, and the ranking of pages.

References:
    Zachary, An information flow model for conflict and fission in small groups (J. Anthropol. Res.
    33, 1977), the club of 34 members. Olfati-Saber, Fax and Murray, Consensus and cooperation in
    networked multi-agent systems (Proc. IEEE 95, 2007), section II. Langville and Meyer, Deeper
    inside PageRank (Internet Math. 1, 2004), section 4.
"""

from __future__ import annotations

import numpy as np

from gallery.base import GALLERY, GalleryMap
from stepfold.unfolded.networks.relaxation import karate_club_laplacian


@GALLERY.register("consensus")
def consensus(rng: np.random.Generator) -> GalleryMap:
    """Averaging on the karate club, ``x ← x − ηLx`` with η = 1/(1 + largest degree).

    L is the graph's Laplacian. Everybody ends with the mean of the starting opinions.
    """
    laplacian = karate_club_laplacian()
    eta = 1 / (1 + laplacian.max())
    start = rng.standard_normal(34)
    return GalleryMap(lambda x: x - eta * (laplacian @ x), start, np.full(34, start.mean()))


@GALLERY.register("pagerank")
def pagerank(rng: np.random.Generator) -> GalleryMap:
    """Ranks of 300 pages that link to pages near them, some to none; damping 0.85.

    The spectrum of a directed graph is complex.
    """
    size, damping = 300, 0.85
    places = np.arange(size)
    ahead = (places[None] - places[:, None]) % size
    near = (ahead > 0) & (ahead < 12) | (ahead > size - 6)
    links = near & (rng.random((size, size)) < 0.4)
    links[rng.random(size) < 0.05] = False
    counts = links.sum(1)
    dangling = counts == 0
    surfing = np.where(dangling[:, None], 1 / size, links / np.maximum(counts, 1)[:, None]).T
    jump = np.full(size, (1 - damping) / size)
    ranks = np.linalg.solve(np.eye(size) - damping * surfing, jump)
    start = np.full(size, 1 / size)
    return GalleryMap(lambda x: damping * (surfing @ x) + jump, start, ranks)
