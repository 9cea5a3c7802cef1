"""Benchmarks: one command, figures to believe.          python -m benchmarks run ops

From the command to a table, in the order in which one reads it:

    __main__    the commands
    a suite     ops, models, scale, backends or kernels: rows of contenders (row.py)
    a work      what a contender does once: contenders (tinycv, PyTorch) and functional (HIPS
                autograd, MyGrad) take the tasks of tasks.py; ops and optimisers have single ops
    measure     one row: each contender in a process of its own (worker), turn by turn, after all
                agreed (gate); memory and device say what else is asked of it
    a record    out/SUITE.json: samples, figures (statistics), where it was (machine, peaks)
    a table     report on the console; tables, gpu_tables and charts for the pages

session.py is a visit to a GPU, and profile.py a part of it; compare.py tells two records apart;
bounds.py and tiles.py look into LSTM and convolution. tinycv imports nothing of this. A contender's
own process imports tinycv or PyTorch, and never both on a CPU: importing tinycv tells malloc to
keep freed memory, which would speed PyTorch up too.
"""
