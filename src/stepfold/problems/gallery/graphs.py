"""Maps on graphs: consensus, and the ranking of pages.

References:
    Zachary, An information flow model for conflict and fission in small groups (J. Anthropol. Res.
    33, 1977), the club of 34 members. Olfati-Saber, Fax and Murray, Consensus and cooperation in
    networked multi-agent systems (Proc. IEEE 95, 2007), section II. Langville and Meyer, Deeper
    inside PageRank (Internet Math. 1, 2004), section 4.
"""

from __future__ import annotations

import numpy as np

from stepfold._typing import FloatArray
from stepfold.problems.gallery.base import GALLERY, GalleryMap

# Member i and those acquainted with i that have a larger number: 78 pairs.
KARATE_CLUB = {
    0: "1 2 3 4 5 6 7 8 10 11 12 13 17 19 21 31",
    1: "2 3 7 13 17 19 21 30",
    2: "3 7 8 9 13 27 28 32",
    3: "7 12 13",
    4: "6 10",
    5: "6 10 16",
    6: "16",
    8: "30 32 33",
    9: "33",
    13: "33",
    14: "32 33",
    15: "32 33",
    18: "32 33",
    19: "33",
    20: "32 33",
    22: "32 33",
    23: "25 27 29 32 33",
    24: "25 27 31",
    25: "31",
    26: "29 33",
    27: "33",
    28: "31 33",
    29: "32 33",
    30: "32 33",
    31: "32 33",
    32: "33",
}


def karate_club() -> FloatArray:
    """Adjacency matrix of the 34-node karate club, entries 0 and 1."""
    adjacency = np.zeros((34, 34))
    for node, text in KARATE_CLUB.items():
        others = [int(word) for word in text.split()]
        adjacency[node, others] = adjacency[others, node] = 1.0
    return adjacency


@GALLERY.register("consensus")
def consensus(rng: np.random.Generator) -> GalleryMap:
    """Averaging on the karate club, ``x ← x − ηLx`` with η = 1/(1 + largest degree).

    L is the graph's Laplacian. Everybody ends with the mean of the starting opinions.
    """
    adjacency = karate_club()
    degrees = adjacency.sum(1)
    laplacian = np.diag(degrees) - adjacency
    eta = 1 / (1 + degrees.max())
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
