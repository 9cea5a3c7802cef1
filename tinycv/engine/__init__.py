"""engine: automatic differentiation (autograd) of arrays. It knows nothing about neural networks.

Read in this order:
    tensor.py           Tensor and Node: what an array remembers about its computation
    walk.py             the backward pass in its simplest form
    backward.py         backward and grad, and the backward pass as it runs
    ops.py              the derivative table: one row per op
    record.py           how a row of the table becomes a function that records Nodes
    fused.py            pairs: a definition to read and a kernel that runs
    dispatch.py         finds the CUDA kernel of a function
    products.py         vjp and hvp: vector-Jacobian and Hessian-vector products
    recompute.py        gradient checkpointing: less memory for more time
    check.py            gradient check against finite differences
    debug.py            debug mode: finds the op that produced the first NaN

What users call:
    methods.py          operators and methods of Tensor
    signatures.py       their type signatures, for editors
    functions.py        longer functions: einsum, take_along_axis, std
    create.py, rng.py   new Tensors; random number generators
    in_place.py         x[i] = y and x += y
    as_number.py        item, float(loss), f"{loss:.3f}"
    mode.py             no_grad and enable_grad

Checks of what users pass:
    arguments.py        numbers, strings, functions
    door.py             arrays and indices
    convert.py          lists, and arrays of other libraries
    operands.py         type promotion: inputs of different dtypes
    errors.py           error messages of ops
    wrong_shapes.py     error messages about shapes
    torch_names.py      what to type instead of a name of PyTorch that tinycv does not have
    watch.py            version counter: was a saved array changed in place?
    state.py            the state of layers, such as running statistics

Arrays and the machine:
    backend.py          one interface to NumPy and CuPy
    find_gpu.py         GPU detection, and what is missing if there is none
    reduce.py           fast and accurate sums; cache blocking
    blocks.py           long elementwise work on all cores
    gemm.py, erf.py     matrix products; the error function
    flat.py             many small Tensors in one array, for optimisers
    blas.py, memory.py  settings of OpenBLAS and of malloc
    shards.py, crew.py  data parallelism: its two primitives; its threads
    capturing.py        CUDA graph capture, as the rest of the package sees it

Symbols and names:
    L                   the number that is differentiated (the loss); with weights u, L = Σ u · y
    x, a, b             inputs of an op; xs if there may be any number of them
    y                   the result of an op
    g                   dL/dy, the gradient of the result; same shape as y
    pull                a function g -> dL/dx (the vector-Jacobian product); it may return the shape
                        of y, which the walk then sums to the shape of x
    piece               what one op adds to the gradient of one of its inputs
    xp                  the array module, numpy or cupy
    Node, parents       a recorded op; the Nodes (or leaves) that its inputs came from
    leaf                a Tensor that no op computed; if it requires a gradient, it gets .grad
    key                 a Node, or a leaf: what a gradient belongs to during the backward pass
    definition, kernel  the two functions of a pair: to read, and to run
"""
