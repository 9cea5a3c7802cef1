"""engine: arrays that remember how they were computed, and their derivatives. It knows nothing of
networks.

To read, in this order:
    tensor.py, ops.py              what a Tensor holds; the derivative of every op, one row an op
    walk.py, backward.py           the walk back: to read, and as it runs
    record.py, fused.py            how a row becomes a function; a definition with its kernel
    dispatch.py                    which CUDA kernel takes a kernel's place on a GPU
    products.py, recompute.py      what is built on the walk: vjp, hvp; memory saved for time
    check.py, debug.py             derivatives against finite differences; who made the first NaN

What users type:
    methods.py, functions.py       operators and methods; einsum, std and other longer ones
    create.py, rng.py              new Tensors; random numbers from one seed
    in_place.py, as_number.py      x[i] = y and x += y; float(loss)
    mode.py                        no_grad

What goes in, and what is said of what may not:
    arguments.py                   numbers, words, functions
    door.py, convert.py            arrays, and what becomes one
    operands.py                    dtypes that meet in one op
    errors.py, wrong_shapes.py     sentences
    watch.py, state.py             memory that changed under a graph; what layers keep

Arrays and the machine:
    backend.py, find_gpu.py        NumPy or CuPy; is there a GPU, and why not
    reduce.py, gemm.py, erf.py     sums, products and erf, as kernels need them
    blas.py, memory.py, flat.py    OpenBLAS's kernel; freed memory; many arrays as one
    shards.py, crew.py             one batch in several threads
    capturing.py                   what a CUDA graph must be told (gpu/recording.py)
    signatures.py                  operators and methods as editors see them
"""
