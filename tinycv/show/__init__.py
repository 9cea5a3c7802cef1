"""Show: what is seen and measured of all of it.

demo.py      what every demo has in common: flags, figures, where its picture goes
draw.py      pictures for demos: figures and files, lines, notes, and by name all that these draw:
             images.py (one, rows, tiles, patches, heat maps), fields.py (functions in the plane),
             graph.py (the recorded graph), words.py (attention over sentences)
motion.py    films: GIFs
colours.py   the colours of every picture
metrics.py   how near a generator's samples are to real data
judge.py     a classifier of digits that says what they are
doctor.py    python -m tinycv.show.doctor: what this machine computes with
inputs.py    checks for the pictures: axes, images, numbers to plot
"""
