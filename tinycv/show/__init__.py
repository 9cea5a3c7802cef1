"""Show: what is seen and measured of all of it.

demo.py      what every demo has in common: flags, figures, where its picture goes
draw.py      pictures for it;   fields.py: of functions in the plane;   motion.py: films;   words.py: sentences
metrics.py   how near a generator's samples are to real data;   judge.py: a classifier of digits that says what they are
doctor.py    python -m tinycv.show.doctor: what this machine computes with;   inputs.py: what the pictures take
"""
