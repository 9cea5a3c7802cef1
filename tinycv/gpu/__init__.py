"""GPU: the CUDA members of functions, one file for each file that it serves.  A reader on a CPU
needs nothing here.

``layer_norm`` in gpu/norm.py runs in place of the one in nn/norm.py: engine/dispatch.py has the
rule.

    cuda.py          how a kernel is written
    parts.py         many arrays in one launch
    capture.py       a whole training step in one launch; one such recording: recording.py
    cublas.py        NVIDIA's products, called by ctypes
    norm_strips.py   the walk over images that group norm and batch norm share
    conv_tiles.py    convolution as a product without its columns; its CUDA text:
                     conv_tiles_kernels.py
"""
