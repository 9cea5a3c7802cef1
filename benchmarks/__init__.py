"""Benchmarks: tinycv against PyTorch, HIPS autograd and MyGrad, on the CPU and on the GPU.

    python -m benchmarks run ops

The files in reading order, from the command to a table in a README:

    __main__.py      the commands
    row.py           rows and contenders: what is compared with what, and for how long
    ops.py           suite "ops": single ops, pairs, reductions
    models.py        suite "models": training steps and inference of whole models
    scale.py         suite "scale": time and memory as the size grows
    parallel.py      suite "parallel": two workers against one (ranks.py: those of MPI)
    costs.py         many workers on paper; scaling.py: the tables and the picture
    backends.py      suite "backends": NumPy against CuPy, and PyTorch on each
    kernels.py       suite "kernels": CUDA kernels against the array calls that they replace
    inputs.py        sizes, random arrays, the inputs of each pair
    optimisers.py    a step of AdamW, for the suites "ops" and "kernels"
    tasks.py         the models' sizes, batches and FLOPs
    networks.py      the models, written once for tinycv and PyTorch (libraries.py, torch_vit.py)
    functional.py    the models for HIPS autograd and MyGrad
    contenders.py    training steps and inference by tinycv and by PyTorch
    work.py          forward and backward through one function, by any library
    measure.py       measures one row: each contender in its own process, taking turns
    worker.py        the process of a contender
    gate.py          refuses a row whose contenders compute different results
    memory.py        peak memory; device.py: host, device and transfer times of a GPU
    statistics.py    medians, ratios with confidence intervals
    machine.py       where it was measured; peaks.py: the machine's fastest matrix product
    report.py        the table on the console
    tables.py        the tables in the READMEs; gpu_tables.py: those of GPU sessions
    charts.py        curves of time over size
    compare.py       is the second of two runs slower?
    session.py       everything worth measuring on a rented GPU; profile.py: its time per kernel
    bounds.py        what kernels and models spend their time on; tiles.py: convolution on a GPU

A record is the JSON file out/SUITE.json, with every sample. The package tinycv imports nothing from
here. A contender's process imports tinycv or PyTorch, and never both on a CPU: importing tinycv
makes malloc keep freed memory, which would speed up PyTorch too.
"""
