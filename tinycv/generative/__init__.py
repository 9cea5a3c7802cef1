"""Chapter 3, machines that make images.

judge.py    a classifier trained on the data, which says what a generated image is, and how far a set of them is from real
"""

from tinycv.generative.judge import Judge, judge_of

__all__ = ["Judge", "judge_of"]
