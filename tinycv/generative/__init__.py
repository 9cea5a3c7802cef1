"""Chapter 3, machines that make images.

judge.py    a classifier trained on the data, which says what a generated image is, and how far a set of them is from real
networks.py networks that are told the time: a multilayer perceptron for points
"""

from tinycv.generative.judge import Judge, judge_of
from tinycv.generative.networks import ScoreMLP

__all__ = ["Judge", "ScoreMLP", "judge_of"]
