"""Views share memory, so a write through one of them changes all of them; backward detects it."""

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinycv import Tensor, nn, no_grad
from tinycv.engine import watch

VIEWS = {
    "x[:]": lambda x: x[:],
    "reshape": lambda x: x.reshape(3, 4),
    "x[1:]": lambda x: x[1:],
    "detach": lambda x: x.detach(),
    "transpose": lambda x: x.transpose(),
    "flip": lambda x: x.flip(0),
    "expand": lambda x: x.expand((2, 4, 3)),
    "squeeze": lambda x: x.unsqueeze(0).squeeze(0),
    "split": lambda x: x.split(2)[1],
    "x[..., None]": lambda x: x[..., None],
    "the same dtype": lambda x: x.astype("float32"),
    "a Tensor of its array": lambda x: Tensor(x._data[::2]),
}
WRITES = {
    "+=": lambda v: v.__iadd__(1.0),
    "*=": lambda v: v.__imul__(3.0),
    "v[0] =": lambda v: v.__setitem__(0, 7.0),
    "v[...] =": lambda v: v.__setitem__(..., 7.0),
}
chains = st.lists(
    st.sampled_from(sorted(set(VIEWS) - {"expand", "reshape", "split"})), min_size=1, max_size=3
)


def of(x, names):
    for name in names:
        x = VIEWS[name](x)
    return x


@given(chains, st.sampled_from(sorted(WRITES)), st.booleans())
def test_a_write_through_any_chain_of_views_is_detected(names, write, learns):
    x = Tensor(np.ones((12, 3), np.float32), requires_grad=learns)
    w = Tensor(np.ones((12, 3), np.float32), requires_grad=True)
    loss = (x * w).sum()
    with no_grad():
        WRITES[write](of(x, names))
    with pytest.raises(RuntimeError, match="was changed in place"):
        loss.backward()


# expand is left out, because NumPy makes it read-only.
@pytest.mark.parametrize("view", sorted(set(VIEWS) - {"expand"}))
def test_a_write_through_a_view_is_detected_on_both_backends(view, device):
    x = Tensor(np.ones((4, 3), np.float32), device=device)
    w = Tensor(np.ones((4, 3), np.float32), device=device, requires_grad=True)
    loss = (x * w).sum()
    VIEWS[view](x).__iadd__(1.0)
    with pytest.raises(RuntimeError, match="was changed in place"):
        loss.backward()


@pytest.mark.parametrize(
    "make", [lambda x: x.exp(), lambda x: nn.functional.softmax(x), lambda x: x.tanh().reshape(-1)]
)
def test_a_write_through_a_view_of_a_saved_result_is_detected(make):
    x = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    y = make(x)
    with no_grad():
        y[0:1].__iadd__(1.0)
    with pytest.raises(RuntimeError, match="was changed in place"):
        y.sum().backward()


def test_a_change_of_an_index_that_a_graph_has_saved_is_detected():
    x, ids = Tensor(np.arange(3.0), requires_grad=True), Tensor(np.array([0, 1]))
    y = x[ids]
    ids += 1
    with pytest.raises(RuntimeError, match="was changed in place"):
        y.sum().backward()


def test_writes_through_a_state_dict_and_into_a_checkpoints_closure_are_detected():
    layer = nn.Linear(3, 1)
    x = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    loss = layer(x).sum()
    layer.state_dict()["weight"].__imul__(3.0)
    with pytest.raises(RuntimeError, match="was changed in place"):
        loss.backward()
    captured = x * 1
    loss = nn.checkpoint(lambda a: a * captured)(x).sum()
    with no_grad():
        captured[0] = 5.0
    with pytest.raises(RuntimeError, match="was changed in place"):
        loss.backward()


def test_a_write_into_other_memory_is_allowed():
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    loss = (x * x).sum()
    for other in (Tensor(x._data.copy()), x.detach() + 0, x.detach()[[0, 1]]):
        other += 1
    y = x.detach().reshape(3)
    # y has another array now, but x has not
    y.data = np.zeros(3, np.float32)
    loss.backward()
    assert x.grad.tolist() == [2, 2, 2]


def test_changes_before_the_op_and_after_backward_are_allowed():
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    for step in range(3):
        with no_grad():
            x[:].__iadd__(1.0)
        x.grad = None
        (x * x).sum().backward()
        assert x.grad.tolist() == [2 * (step + 2)] * 3


def test_the_record_of_freed_memory_is_removed():
    gc.collect()
    before = len(watch.MEMORIES)
    for _ in range(50):
        x = Tensor(np.ones(3, np.float32), requires_grad=True)
        x.detach()[0:2].__iadd__(1.0)
        assert x.data.sum() == 5
    del x
    gc.collect()
    assert len(watch.MEMORIES) <= before


# ── memory of other libraries ────────────────────────────────────────────────────────────────────


def mapped(path):
    m = np.memmap(path, np.float32, "w+", shape=3)
    m[:] = 1
    return m


@pytest.mark.parametrize(
    "second",
    [lambda m: m, lambda m: m[:2], lambda m: m.reshape(3, 1), np.asarray],
    ids=["whole", "slice", "reshaped", "array"],
)
def test_a_write_into_a_memory_map_is_detected_through_another_tensor_on_it(tmp_path, second):
    m = mapped(tmp_path / "m")
    w, x, y = Tensor([1.0, 2.0, 3.0], requires_grad=True), Tensor(m), Tensor(second(m))
    loss = (w * x).sum()
    y += 10
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


class Lender:
    """An array of another library, whose memory NumPy arrays can use."""

    def __init__(self):
        self.own = np.ones(4, np.float32)
        self.__array_interface__ = self.own.__array_interface__


@pytest.mark.parametrize("part", [slice(None), slice(2, 4)])
def test_a_write_into_memory_of_another_library_that_two_tensors_use_is_detected(part):
    lender = Lender()
    w, x, y = (
        Tensor(np.ones(4, np.float32), requires_grad=True),
        Tensor(lender),
        Tensor(np.asarray(lender)[part]),
    )
    loss = (w * x).sum()
    assert (x.data == 1).all() and (y.data == 1).all()
    loss.backward()  # reading did not count as a change
    loss = (w * x).sum()
    y += 1
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()
