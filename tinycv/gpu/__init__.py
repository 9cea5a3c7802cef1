"""gpu: hand-written CUDA kernels, one file for each file that they speed up.

A reader on a CPU can skip this folder. ``layer_norm`` in gpu/norm.py runs instead of ``layer_norm``
in nn/norm.py when the arrays are on a GPU: engine/dispatch.py has the rule. What a function
computes is defined there; here is only how a GPU does it with few launches.

In reading order:

    cuda.py                 how a kernel is written and launched; read this first
    activation.py           GELU, SiLU, leaky ReLU: one launch each way
    softmax.py              softmax, log-softmax: one warp per row
    losses.py               cross-entropy
    norm.py                 layer norm
    group_norm.py           group norm
    norm_strips.py          how group norm and batch norm pass over images
    batch_norm.py           batch norm
    reduce.py               sums over the rows of a matrix
    linear.py               linear layer: cuBLAS adds the product to the bias
    lstm.py                 a step of the LSTM
    attention.py            mask and softmax of attention, between its two products
    conv.py                 convolution; it calls
    conv_kernel.py          its three linear maps, by columns (im2col), and
    conv_tiles.py           by tiles without columns (implicit GEMM); its CUDA text is in
    conv_tiles_kernels.py
    parts.py                one launch for many arrays, used by
    adam.py                 Adam, AdamW
    clipping.py             gradient clipping
    gemm.py                 matrix products, TF32; it calls
    cublas.py               NVIDIA's library of matrix products, through ctypes
    capture.py              CUDA graphs: a whole training step in one launch
    recording.py            one recorded step

Terms and symbols:

    launch        one call of a kernel, which costs a few microseconds whatever it does
    thread, lane  one of the 32 threads of a warp, which run in step
    warp          here it usually works on one row of an array
    block         warps that share fast memory; in cuda.py's launches 4 warps
    T, A          in CUDA text: the float type of the arrays, and the type to calculate in
                  (float32 if the arrays are float16)
    xp            in Python: CuPy, or the double of it that tests use
    half          a float16 number
    strip         in norms and sums: a part of the pixels or rows, which one warp sums up
    tile          in convolution: a part of the result, which one block computes
"""
