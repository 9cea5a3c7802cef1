"""optim: from gradients to better weights.

sgd.py, adam.py   the rules: SGD with momentum, Adam, AdamW
optimizer.py      what all optimisers do around them: groups, steps, state
slab.py           parameters of one group side by side, with what is remembered of them
schedules.py      the learning rate over a training: warmup, cosine
clipping.py       gradients that are too long
averaged.py       EMA: averaged weights
state.py          saved states, checked whole before they are loaded
inputs.py         checks of the parameters, options and gradients that optimisers are given
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
