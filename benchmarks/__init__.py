"""Benchmarks: one command, figures to believe.          python -m benchmarks run ops

A suite (ops.py, ...) says what is compared: rows of contenders (row.py). measure.py measures one:
worker.py holds a contender's process, gate.py refuses what disagrees, memory.py and statistics.py
say how. machine.py tells where, and peaks.py what is possible there. report.py prints, tables.py
and charts.py write what was recorded; compare.py tells two records apart. Nothing here is imported
by tinycv, and nothing of tinycv or PyTorch is imported before a contender's own process asks for
it: importing tinycv tells malloc to keep freed memory, which would speed PyTorch up too.
"""
