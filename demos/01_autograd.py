"""01 · How does autograd differentiate a program?
python demos/01_autograd.py      under 1 s on one core

A coin shows heads in 3 of 10 throws. If we believe that heads has probability sigmoid(x), a throw
surprises us by f(x) = softplus(x) - 0.3 x on average, in nats. This cross-entropy is smallest where
sigmoid(x) = 0.3, that is, at x = log(0.3 / 0.7) = -0.8473. Reverse-mode automatic differentiation
(backpropagation) finds this minimum, although nobody writes down a derivative. The picture shows
the graph that the engine records, and two ways down the curve: gradient descent, which uses the
slope, and Newton's method, which also uses the second derivative.
Read first: tinycv/engine/tensor.py, then walk.py.
"""

import math

import numpy as np

import tinycv
from tinycv.show import draw
from tinycv.show.demo import Demo

show = Demo("01_autograd", __doc__)
RATE = 1.0
truth = math.log(0.3 / 0.7)


# %% The function: the average surprise per throw, in nats
def f(x):
    return tinycv.softplus(x) - 0.3 * x


def scalar(value):
    """A number that we will differentiate with respect to."""
    return tinycv.tensor(value, dtype="float64", device=show.device, requires_grad=True)


# %% Forward: running the ops records a graph of how y was computed from x
x = scalar(2.0)
y = f(x)

# %% Backward: walk through the graph from y to x.
# With create_graph the walk is recorded too, so the slope can be differentiated once more.
(slope,) = tinycv.grad(y, x, create_graph=True)
(curvature,) = tinycv.grad(slope, x)
show.measured("f(2)", y.item(), "log(1 + e^2) - 0.6 = 1.526928")
show.measured("f'(2)", slope.item(), "sigmoid(2) - 0.3 = 0.580797")
show.measured("f''(2)", curvature.item(), "sigmoid(2) (1 - sigmoid(2)) = 0.104994")
derivatives = f"at x = 2:  f = {y.item():.4f},  f' = {slope.item():.4f}"

# %% Gradient descent: each step goes against the slope
visited = []
heights = []
for _ in range(40):
    y = f(x)
    visited.append(x.item())
    heights.append(y.item())
    y.backward()  # adds dy/dx to x.grad
    with tinycv.no_grad():  # the step itself is not recorded
        x -= RATE * x.grad
    x.grad = None  # otherwise the next slope would be added to this one

# %% Newton's method: the second derivative says how far each step should go
w = scalar(0.0)
newton = [w.item()]
for _ in range(4):
    (slope,) = tinycv.grad(f(w), w, create_graph=True)
    (curvature,) = tinycv.grad(slope, w)
    with tinycv.no_grad():
        w -= slope / curvature
    newton.append(w.item())

# %% Measure: both methods end at the minimum that the formula gives
reference = f"log(0.3/0.7) = {truth:.6f}"
show.measured("x after 40 steps of gradient descent", x.item(), reference, f"{truth:.6f} +- 1e-3")
show.measured("w after 4 Newton steps", w.item(), reference, f"{truth:.12f} +- 1e-9")

# %% Draw: the graph, and both ways down
figure = draw.figure("Autograd records a graph; the slopes it gives lead to the minimum", 9, 4.6)
left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))

start = scalar(2.0)
draw.graph(left, f(start), {"x": start})
left.set_title("the graph recorded by\nf(x) = softplus(x) - 0.3 x", fontsize=12)
left.text(0.5, 0.04, derivatives, transform=left.transAxes, ha="center", fontsize=12)

grid = np.linspace(-3.2, 2.6, 200)
surprise = f(tinycv.tensor(grid)).numpy()
newton_heights = f(tinycv.tensor(newton, dtype="float64")).numpy()
x_name = "x (heads has probability sigmoid(x))"
draw.curves(right, {"f(x)": (grid, surprise)}, x_name, "f(x): surprise per throw, nats")
right.axvline(truth, color=draw.INK, linewidth=1.2, linestyle="--")
right.plot(visited, heights, "o", color=draw.ORANGE, markersize=7, zorder=3)
right.plot(newton, newton_heights, "s", color=draw.RED, markersize=8, zorder=4)
right.set_ylim(0.5, 2.05)


def label(text, point, place, colour):
    """A text at ``place`` with an arrow to ``point``, both in units of the axes."""
    arrow = {"arrowstyle": "->", "color": colour, "linewidth": 1.6, "shrinkB": 6}
    right.annotate(text, point, place, color=draw.INK, fontsize=12, arrowprops=arrow)


label("gradient descent\n40 steps", (visited[1], heights[1]), (-0.6, 1.45), draw.ORANGE)
label("Newton, 4 steps", (newton[0], newton_heights[0]), (0.45, 0.56), draw.RED)
right.text(truth - 0.1, 1.2, "log(0.3 / 0.7)", ha="right", fontsize=12, color=draw.INK)
found = f"descent {x.item():.4f}\nNewton {w.item():.4f}\nformula {truth:.4f}"
draw.note(right, found)
show.finish(figure)
