"""tinycv: the models of modern computer vision, from scratch, on NumPy or CuPy.

    engine/         arrays that can be differentiated (autograd)
    nn/, optim/     layers and losses; optimisers
    training/       the training loop, checkpoints, float16, several cores or machines
    sequence/       RNN, LSTM, seq2seq, attention, Transformer, GPT
    vision/         the Vision Transformer, and pictures of what it looks at
    adversarial/    GANs
    likelihood/     VAEs, flows, autoregressive models: how probable an image is
    diffusion/      score matching, Langevin dynamics, diffusion models
    gpu/            CUDA kernels for functions of all of these
    data/, show/    data sets; pictures, measurements and the demos' helpers
    certificate/    the inputs on which every derivative is checked

README.md lists the files in the order in which they are best read.  Names follow NumPy for arrays
(axis, keepdims) and PyTorch for networks.
"""

# Imported first: they change the settings of OpenBLAS and malloc before NumPy is loaded.
from tinycv.engine import blas, memory
from tinycv.engine.backend import GpuUnavailable, manual_seed, resolve
from tinycv.gpu.capture import captured
from tinycv.engine.create import (
    arange,
    eye,
    full,
    full_like,
    one_hot,
    ones,
    ones_like,
    rand,
    rand_like,
    randn,
    randn_like,
    tensor,
    zeros,
    zeros_like,
)
from tinycv.engine.debug import debug
from tinycv.gpu.gemm import allow_tf32
from tinycv.engine.functions import einsum, std, take_along_axis
from tinycv.engine.methods import (
    concatenate,
    matmul,
    power,
    split,
    stack,
)
from tinycv.engine.ops import (
    abs,
    argmax,
    argmin,
    clip,
    cos,
    cumsum,
    erf,
    exp,
    expm1,
    flip,
    log,
    log1p,
    logsumexp,
    max,
    maximum,
    mean,
    min,
    minimum,
    norm,
    pad,
    relu,
    sigmoid,
    sign,
    sin,
    softplus,
    sqrt,
    sum,
    tanh,
    var,
    where,
)
from tinycv.engine.tensor import Parameter, Tensor, enable_grad, no_grad
from tinycv.engine.torch_names import give_hints
from tinycv.engine.products import hvp, vjp
from tinycv.engine.backward import grad
from tinycv import adversarial, data, diffusion, nn, optim, sequence, training, vision
from tinycv.training import checkpoint, parallel
from tinycv.show import notebook
from tinycv.show.summary import summary

notebook.register()
blas.clear()  # NumPy is loaded now, and has read it

__version__ = "0.1.0"  # setup.py reads it here
float32, float64, int64 = "float32", "float64", "int64"
give_hints(__name__)  # what to type instead of a name of PyTorch
