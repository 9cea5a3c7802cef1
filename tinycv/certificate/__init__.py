"""Gradient checks (the certificate): the calls on which every op and pair is compared with finite
differences.

``python -m tinycv.engine.check`` runs them all. The comparison itself is engine/check.py.

cases.py         every op and every pair, with the family of calls on which it is tried
families.py      families of calls for ops: unary, binary, reductions, indexing, matmul, einsum
families_nn.py   families of calls for convolution, pooling and binary cross-entropy
table.py         the command, and the table that it prints

Words:
    case     one call of a function with its inputs: arrays in float64, indices, masks
    family   a function (f, rng) -> cases, for all functions f with the same form of arguments
    f        the function that is tried: an op, or one half of a pair (kernel or definition)
    rng      the generator of the inputs. Its seed is fixed, so both halves get the same inputs
    ladder   random numbers that keep a distance from 0 and from each other, so that finite
             differences do not cross a corner such as that of relu
    order 1  the gradient; order 2 the gradient of the gradient
"""
