"""tinycv: the models of modern computer vision, from scratch, on NumPy or CuPy.

Read in this order:

1. engine/tensor.py, walk.py     a Tensor remembers how it was computed; the walk back differentiates it
2. engine/ops.py                 the derivative table, one row an op;  record.py: how a row becomes a function
3. engine/fused.py               the pair: a definition to read, a kernel to run
4. nn/module.py, linear.py, activation.py, norm.py, losses.py,
   conv.py, pool.py                                                   what networks share
5. sequence/rnn.py, lstm.py, gru.py, recurrent.py                     a memory that is written and read step by step
   sequence/align.py, seq2seq.py, decode.py                           from one sequence to another, looking back
   sequence/attention.py, masks.py, blockwise.py, positions.py,
   transformer.py, encoder_decoder.py, gpt.py                         tokens that look at each other
6. vision/vit.py                                                      images, read as sentences of patches
   vision/convnet.py, inside.py, weights.py                           to compare; to see inside; weights of others
7. generative/gan.py, turns.py, gan_networks.py                       a painter and an art teacher
8. data/densities.py; generative/score.py, langevin.py, sde.py, ode.py,
   diffusion.py, samplers.py, edm.py, unet.py, dit.py                 from noise to images, along the score
9. optim.py, train.py, run.py, checkpoint.py                          how all of them learn
10. engine/recompute.py                                               less memory, for a second forward pass
11. engine/shards.py, state.py, parallel.py, nn/batch_norm.py         all cores at one batch
12. engine/cuda.py, gemm.py, nn/norm_cuda.py and its like; half.py     what a GPU wants done otherwise
    engine/capture.py                                                 a whole training step as one launch

The names are NumPy's for arrays (axis, keepdims) and PyTorch's for networks.
"""

from tinycv.engine import blas, memory                 # first: they set how NumPy will multiply and allocate
from tinycv.engine.backend import GpuUnavailable, manual_seed, resolve
from tinycv.engine.capture import captured
from tinycv.engine.create import arange, eye, full, ones, ones_like, rand, randn, tensor, zeros, zeros_like
from tinycv.engine.debug import debug
from tinycv.engine.gemm import allow_tf32
from tinycv.engine.methods import concatenate, einsum, matmul, power, split, stack, std, take_along_axis
from tinycv.engine.ops import (
    abs, argmax, argmin, clip, cos, cumsum, erf, exp, expm1, flip, log, log1p, logsumexp, max, maximum, mean, min,
    minimum, norm, pad, relu, sigmoid, sign, sin, softplus, sqrt, sum, tanh, var, where,
)
from tinycv.engine.tensor import Parameter, Tensor, enable_grad, no_grad
from tinycv.engine.walk import grad, hvp, vjp
from tinycv import checkpoint, data, generative, nn, optim, parallel, sequence, train, vision

blas.clear()                                           # NumPy is loaded now, and has read it

float32, float64, int64 = "float32", "float64", "int64"
