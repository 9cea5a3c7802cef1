"""Training: the loop, its checkpoints, half precision, all cores at one batch.

loop.py         fit: one loop for every model that learns from one loss
resume.py       what is saved of a training, and what must fit to go on from it
checkpoint.py   arrays and a small state in one safetensors file
half.py         half precision: float16 weights, float32 master weights, a scaled loss
parallel.py     all cores at one batch: threads
progress.py     a loop that is written out (steps), how far a training is, and Ctrl-C
inputs.py       checks of what fit and Run are given

Other people's weights:
torch_file.py   .pt files; torch_pickle.py reads their pickles without running code
safetensors_header.py   headers of safetensors files, read with suspicion
"""

from tinycv.training import checkpoint, parallel
from tinycv.training.loop import History, fit

__all__ = ["History", "checkpoint", "fit", "parallel"]
