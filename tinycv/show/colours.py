"""The palette of every picture. All pairs of line colours stay apart under protanopia and
deuteranopia (tests/show/test_colours.py simulates both).

The truth (a known density, a floor, a published figure) is drawn dashed, in INK.
"""

BLUE, RED, ORANGE, SKY, INK = "#2166ac", "#b2182b", "#f0a030", "#67c3e8", "#000000"
PALE = "#dddddd"  # grids and backgrounds
GOOD, BAD = BLUE, RED
LINES = (BLUE, RED, ORANGE, SKY, INK)
