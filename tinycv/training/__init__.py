"""Training: the loop, and what keeps it.

loop.py         one loop for every model that learns from one loss;   progress.py: how far it is;   inputs.py: what it takes
checkpoint.py   arrays and a small state in one safetensors file;   resume.py: what must fit to go on from it
half.py         half precision;   parallel.py: all cores at one batch
torch_file.py   other people's weights, from .pt files (torch_pickle.py reads their pickles);   safetensors_header.py
"""

from tinycv.training import checkpoint, parallel
from tinycv.training.loop import History, fit

__all__ = ["History", "checkpoint", "fit", "parallel"]
