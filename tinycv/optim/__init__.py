"""optim: from gradients to better weights.

sgd.py, adam.py: the rules;  optimizer.py: what all optimisers do around them (groups, state);
schedules.py: the learning rate over a training;  clipping.py: gradients that are too long;
averaged.py: averaged weights.
"""

from tinycv.optim.adam import Adam, AdamW
from tinycv.optim.averaged import EMA
from tinycv.optim.clipping import clip_grad_norm_, clip_grad_value_
from tinycv.optim.optimizer import Optimizer
from tinycv.optim.schedules import (
    Schedule,
    constant,
    warmup_cosine,
    warmup_inverse_sqrt,
    warmup_linear,
)
from tinycv.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "EMA",
    "Optimizer",
    "Schedule",
    "clip_grad_norm_",
    "clip_grad_value_",
    "constant",
    "warmup_cosine",
    "warmup_inverse_sqrt",
    "warmup_linear",
]
