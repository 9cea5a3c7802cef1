"""01 · What is a derivative, to a program?
python demos/01_autograd.py      under 1 s on two cores

A coin shows heads in 3 of 10 throws. How surprised are we by a throw, if we believe in heads with
the chance sigmoid(x)? By f(x) = softplus(x) - 0.3 x on average (in nats), and f has its minimum
where sigmoid(x) = 0.3: at x = log(0.3 / 0.7) = -0.8473. The program finds this minimum, although
nobody writes down a derivative. The picture shows the graph that the engine records, and two ways
down the curve.
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


# %% The function: how surprised we are by a throw, on average, in nats
def f(x):
    return tinycv.softplus(x) - 0.3 * x


def number(value):
    """A number whose derivatives will be asked for."""
    return tinycv.tensor(value, dtype="float64", device=show.device, requires_grad=True)


# %% Build: running the ops leaves a graph behind, which says how y came from x
x = number(2.0)
y = f(x)

# %% Differentiate: a walk back through the graph
# With create_graph the walk is recorded too, so the slope can be differentiated once more.
(slope,) = tinycv.grad(y, x, create_graph=True)
(bend,) = tinycv.grad(slope, x)
show.measured("f(2)", y.item(), "log(1 + e^2) - 0.6 = 1.526928")
show.measured("f'(2)", slope.item(), "sigmoid(2) - 0.3 = 0.580797")
show.measured("f''(2)", bend.item(), "sigmoid(2) (1 - sigmoid(2)) = 0.104994")

# %% Descend: each step goes against the slope
visited = []
heights = []
for _ in range(40):
    y = f(x)
    visited.append(x.item())
    heights.append(y.item())
    y.backward()  # adds dy/dx to x.grad
    with tinycv.no_grad():  # the step itself is not recorded
        x -= RATE * x.grad
    x.grad = None  # the next slope starts from nothing

# %% Newton: the second derivative says how far each step should go
w = number(0.0)
newton = [w.item()]
for _ in range(4):
    (slope,) = tinycv.grad(f(w), w, create_graph=True)
    (bend,) = tinycv.grad(slope, w)
    with tinycv.no_grad():
        w -= slope / bend
    newton.append(w.item())

# %% Measure: both ways end at the minimum that the formula gives
reference = f"log(0.3/0.7) = {truth:.6f}"
show.measured("x after 40 steps downhill", x.item(), reference, f"{truth:.6f} +- 1e-3")
show.measured("w after 4 Newton steps", w.item(), reference, f"{truth:.12f} +- 1e-9")

# %% Draw: the graph, and both ways down
figure = draw.figure(
    "An autograd engine records what runs, walks back for slopes, and follows them down", 11, 4.6
)
left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))

start = number(2.0)
draw.graph(left, f(start), {"x": start})
left.set_title("the graph recorded by  softplus(x) - 0.3 * x", fontsize=11)

grid = np.linspace(-3.2, 2.6, 200)
surprise = f(tinycv.tensor(grid)).numpy()
draw.curves(
    right,
    {"f(x) = softplus(x) - 0.3 x": (grid, surprise)},
    "x (we believe in heads with chance sigmoid(x))",
    "surprise per throw, nats",
)
right.plot(
    visited,
    heights,
    "o-",
    color=draw.LINES[3],
    markersize=4,
    linewidth=0.8,
    label="downhill, 40 steps",
)
right.plot(
    newton,
    f(tinycv.tensor(newton, dtype="float64")).numpy(),
    "s",
    color=draw.LINES[2],
    markersize=6,
    label="Newton, 4 steps",
    zorder=3,
)
right.axvline(truth, color=draw.BAD, linewidth=0.9, linestyle="--", label="log(0.3 / 0.7)")
right.set_ylim(0.55, 2.25)
right.legend(frameon=False, fontsize=9, loc="upper right")
draw.note(right, f"found {x.item():.4f}\ntruth {truth:.4f}")
show.finish(figure)
