"""Training: the training loop, checkpoints, half precision, data parallelism.

loop.py         fit, the training loop, and Run, the loop that fit and the GANs share
hooks.py        functions that fit calls after every step, and the Step that they receive
writers.py      hooks that write logs: CSV, TensorBoard
progress.py     steps, for a training loop of your own; the progress bar; Ctrl-C
parallel.py     data parallelism: all cores compute the gradient of one batch
groups.py       what all its carriers do: cut the batch, add up the gradients of the shards
threads.py      its carrier with threads
processes.py    its carrier with processes; the files below belong to it
workers.py      forking the worker processes, using them, ending them
links.py        a worker process, seen from the calling process, and the connection to it
calling_side.py     one batch in the calling process
worker_side.py      one batch in a worker process
shared_memory.py    arrays that several processes see
sending.py      a Python function as bytes, for another process
user_code.py    what belongs to the user's program, which may change while it runs
receiving.py    the function, made from such bytes
mpi.py          its carrier with MPI: every rank runs the whole program, on one machine or many
messages.py     sums in rank order between MPI ranks, and errors that reach all of them
packed.py       all gradients of a step in one array per dtype, for one message
nccl.py         sums between GPUs, each driven by one MPI rank
half.py         half precision: float16 weights, float32 master weights, a scaled loss
master.py       the float32 master weights of half.py
checkpoint.py   saving and loading arrays and a small state in one safetensors file
pretrained.py   weights that ship: their file, its record, and where it is found
resume.py       what a training saves, and what must match before it resumes
inputs.py       checks of the arguments of fit and Run

Reading weights that others saved:
torch_file.py           PyTorch's .pt files
torch_pickle.py         the pickle inside a .pt file, read without running code
safetensors_header.py   the header of a safetensors file, checked before it is parsed

Words and symbols:
    step     one update of the weights, counted from 0
    epoch    one pass through the loader: len(loader) steps
    rate     lr x schedule(step), the learning rate of one step
    L, w     the loss, a scalar, and the weights (groups.py, half.py)
    L_i, n_i the loss of shard i of a batch, and its number of examples; N = Σ n_i (groups.py)
    S        the factor by which the loss is multiplied in half precision (half.py)
    shard    a worker's share of a batch: consecutive examples along axis 0
"""

from tinycv.training import checkpoint, parallel
from tinycv.training.hooks import Step
from tinycv.training.loop import History, fit
from tinycv.training.writers import CSVWriter, TensorBoardWriter

__all__ = [
    "CSVWriter",
    "History",
    "Step",
    "TensorBoardWriter",
    "checkpoint",
    "fit",
    "parallel",
]
