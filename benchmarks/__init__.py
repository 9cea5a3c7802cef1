"""Benchmarks: one command, figures to believe.          python -m benchmarks run ops

measure.py times contenders against each other, ops.py says what is compared, machine.py where, report.py prints it.
Nothing here is imported by tinycv, and nothing of tinycv or PyTorch is imported before a contender's own process asks
for it: importing tinycv tells malloc to keep freed memory, which would speed PyTorch up too.
"""
