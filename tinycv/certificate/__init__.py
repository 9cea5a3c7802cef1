"""The certificate's cases: which calls of every op, pair and layer are compared with finite
differences.

families.py     what an op is asked with, by the form of its arguments;   families_nn.py: of the pairs
cases.py        every op and every pair with its family          ``python -m tinycv.engine.check`` runs them all
"""
