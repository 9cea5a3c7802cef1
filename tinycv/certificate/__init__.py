"""The certificate's cases: which calls of every op, pair and layer are compared with finite
differences. ``python -m tinycv.engine.check`` runs them all.

families.py      what an op is asked with, by the form of its arguments
families_nn.py   the same for the pairs
cases.py         every op and every pair with its family
table.py         the table that the check prints
"""
