"""The colours of every picture."""

INK, GOOD, BAD, PALE = "#222222", "#1b7837", "#b2182b", "#dddddd"
# told apart in print and by the colour-blind
LINES = ("#2166ac", "#b2182b", "#1b7837", "#e08214", "#762a83")
