"""Colours, dashes and markers, curve by curve: in matplotlib's words, plotly's and SVG's."""

from __future__ import annotations

# Okabe and Ito's palette: told apart by colour-blind readers; dashes and markers tell in grey. The
# last is the page's ink: black on white, white on black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), "-")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# More would merge into a band; the line goes through every point.
MOST_MARKERS = 40
# Levels and axes of thumbnails: contrast 4.5 to white and 4.7 to black.
LEVEL = "#767676"
LEVEL_DASHES = ((0, (4, 3)), (0, (1, 2)), (0, (9, 2, 1, 2)))

PLOTLY_DASHES = ("solid", "dash", "dashdot", "dot", "10px 2px 2px 2px 2px 2px", "2px 2px", "solid")
PLOTLY_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x")
PLOTLY_LEVEL_DASHES = ("5px 4px", "2px 3px", "12px 3px 2px 3px")
# The same in a legend's sample of 32 × 12: dashes, and outlines of markers around (16, 6).
SVG_DASHES = ("", "7 4", "7 3 2 3", "2 3", "8 2 2 2 2 2", "2 2", "")
SVG_LEVEL_DASHES = ("4 3", "1 2", "9 2 1 2")
SVG_MARKERS = (
    "M12.5 6a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z",
    "M12.5 2.5h7v7h-7z",
    "M16 2l4 7.5h-8z",
    "M16 1.5l4.5 4.5l-4.5 4.5l-4.5 -4.5z",
    "M16 10l4 -7.5h-8z",
    "M14.8 2h2.4v2.8h2.8v2.4h-2.8v2.8h-2.4v-2.8h-2.8v-2.4h2.8z",
    "M13.5 2l2.5 2.5l2.5 -2.5l1.5 1.5l-2.5 2.5l2.5 2.5l-1.5 1.5l-2.5 -2.5l-2.5 2.5l-1.5 -1.5"
    "l2.5 -2.5l-2.5 -2.5z",
)
