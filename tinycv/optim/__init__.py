"""Optimisers: SGD, Adam, AdamW and L-BFGS, learning-rate schedules, gradient clipping and EMA.

sgd.py          SGD with momentum: the update rule and its class
adam.py         Adam and AdamW: the update rules and their classes
lbfgs.py        L-BFGS: a quasi-Newton method, for a loss without noise
line_search.py  the strong Wolfe line search: how far to go along a direction
objective.py    the loss as a function of one vector of all weights, for L-BFGS
schedules.py    learning-rate schedules: warmup, cosine, linear, inverse square root
clipping.py     gradient clipping: by norm and by value
averaged.py     EMA, the exponential moving average of the weights
optimizer.py    the base class: parameter groups, step, zero_grad, saving and loading
slab.py         the parameters of one group in one flat array, with the optimiser's state
state.py        checks of a saved optimiser state, made before anything is loaded
inputs.py       checks of the parameters, options and gradients that optimisers receive

Symbols, in every rule. All arrays have the shape of p:
    p     the weights of one parameter; w in the formulas
    g     the gradient of the loss with respect to p
    b     SGD's momentum buffer, a running sum of gradients; saved as "momentum_buffer"
    m     Adam's running mean of g (β1); saved as "exp_avg"
    v     Adam's running mean of g² (β2); saved as "exp_avg_sq"
    s, y  L-BFGS's pairs: a change of the weights, and the change of the gradient; all in one vector
    step  a number: how many updates this parameter has had, this one included
    lr    a number: the learning rate. A schedule returns a factor that multiplies it
    eps   a number: keeps Adam from dividing by 0
"""

from tinycv.engine.torch_names import give_hints
from tinycv.optim.adam import Adam, AdamW
from tinycv.optim.averaged import EMA
from tinycv.optim.clipping import clip_grad_norm_, clip_grad_value_
from tinycv.optim.lbfgs import LBFGS
from tinycv.optim.optimizer import Optimizer
from tinycv.optim.schedules import (
    Schedule,
    constant,
    warmup_cosine,
    warmup_inverse_sqrt,
    warmup_linear,
)
from tinycv.optim.sgd import SGD

give_hints(__name__)  # what to type instead of a name of PyTorch

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "EMA",
    "LBFGS",
    "Optimizer",
    "Schedule",
    "clip_grad_norm_",
    "clip_grad_value_",
    "constant",
    "warmup_cosine",
    "warmup_inverse_sqrt",
    "warmup_linear",
]
