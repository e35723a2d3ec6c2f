"""Colours, dashes and markers that every renderer shares, curve by curve."""

from __future__ import annotations

# Okabe and Ito's palette: told apart by colour-blind readers; dashes and markers tell in grey. The
# last is the page's ink: black on white, white on black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), "-")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Levels and axes of thumbnails: contrast 4.5 to white and 4.7 to black.
LEVEL = "#767676"
