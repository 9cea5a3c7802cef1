"""Weight files are exchanged between PyTorch and tinycv by name: .pt and safetensors, nn.LSTM and
nn.TransformerEncoder."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import safetensors.torch
from twin import equal, randomised

from tinycv import Tensor, no_grad
from tinycv.nn import LayerNorm
from tinycv.sequence import LSTM, TransformerEncoder, TransformerEncoderLayer
from tinycv.training import checkpoint

RNG = np.random.default_rng(0)


def lstms():
    options = {"num_layers": 2, "batch_first": True, "bidirectional": True}
    return LSTM(12, 5, **options), torch.nn.LSTM(12, 5, **options)


def encoders():
    theirs = torch.nn.TransformerEncoderLayer(
        12, 3, 20, 0.0, "gelu", batch_first=True, norm_first=True
    )
    return (
        TransformerEncoder(
            TransformerEncoderLayer(12, 3, 20, 0.0, "gelu", norm_first=True), 2, LayerNorm(12)
        ),
        torch.nn.TransformerEncoder(theirs, 2, torch.nn.LayerNorm(12), enable_nested_tensor=False),
    )


def outputs(ours, theirs):
    x = RNG.normal(size=(4, 6, 12)).astype(np.float32)
    with no_grad(), torch.no_grad():
        y, z = ours(Tensor(x)), theirs(torch.tensor(x))
    return (y[0], z[0]) if isinstance(z, tuple) else (y, z)


SAVES = {"pt": torch.save, "safetensors": safetensors.torch.save_file}


@pytest.mark.parametrize("ending", SAVES)
@pytest.mark.parametrize("make", [lstms, encoders])
def test_a_file_saved_by_pytorch_loads_unchanged(make, ending, tmp_path):
    ours, theirs = make()
    randomised(theirs)
    SAVES[ending](theirs.state_dict(), tmp_path / f"a.{ending}")
    checkpoint.load_model(tmp_path / f"a.{ending}", ours)
    equal(*outputs(ours, theirs))


@pytest.mark.parametrize("make", [lstms, encoders])
def test_a_file_saved_by_tinycv_loads_unchanged_in_pytorch(make, tmp_path):
    ours, theirs = make()
    checkpoint.save_model(tmp_path / "a.safetensors", ours)
    theirs.load_state_dict(safetensors.torch.load_file(tmp_path / "a.safetensors"), strict=True)
    equal(*outputs(ours, theirs))


# ── every kind of tensor that torch.save writes ───────────────────────────────────────────────────

BASE = torch.arange(60.0).reshape(3, 4, 5)
KINDS = {
    f"{d}".removeprefix("torch."): torch.tensor([[0, 1, 1], [1, 0, 1]]).to(d)
    for d in (
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    )
}
VIEWS = {
    "permuted": BASE.permute(2, 0, 1),
    "every second": BASE[::2, :, 1::2],
    "a part": BASE[1, 2:],
    "one": BASE[2, 3, 4],
    "none": BASE[:0],
    "parameter": torch.nn.Parameter(BASE),
    "flat": BASE.reshape(-1)[3:],
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_dtype_and_view_is_read_unchanged(protocol, tmp_path):
    tensors = KINDS | VIEWS
    torch.save(tensors, tmp_path / "a.pt", pickle_protocol=protocol)
    arrays, _ = checkpoint.load(tmp_path / "a.pt")
    assert arrays.keys() == tensors.keys()
    for name, t in tensors.items():
        t = t.detach().float() if t.dtype == torch.bfloat16 else t.detach()
        np.testing.assert_array_equal(arrays[name], t.numpy(), name, strict=True)


def test_weights_are_found_in_what_a_training_script_saved(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.save(
        {"epoch": 3, "model": model.state_dict(), "optimizer": optimizer.state_dict()},
        tmp_path / "a.pt",
    )
    assert checkpoint.load(tmp_path / "a.pt")[0].keys() == {"weight", "bias"}


@pytest.mark.parametrize(
    "what, words",
    [
        (torch.nn.Linear(2, 2), "names torch.nn.modules.linear.Linear"),
        ({"a": BASE.to_sparse()}, "holds a tensor that is sparse, quantised"),
        *[
            (
                {"a": torch.zeros(2, dtype=dtype)},
                "holds a tensor with numbers of type Complex(Float|Double)",
            )
            for dtype in (torch.complex64, torch.complex128)
        ],
        *[
            (
                {"a": torch.zeros(2, dtype=torch.uint8).to(dtype)},
                "holds a tensor of uint16, .*; only dense tensors of float64, ",
            )
            for dtype in (
                torch.uint16,
                torch.uint32,
                torch.uint64,
                torch.float8_e4m3fn,
                torch.float8_e5m2,
            )
        ],
        ({"a": np.float64(1)}, "names numpy"),
        ({"a": BASE.expand(2, 3, 4, 5)}, "repeats the 60 numbers of its storage"),
        ({"a": BASE, "step": 3}, r"other things than tensors by name: step \(a int\)"),
    ],
)
def test_anything_but_a_dict_of_tensors_is_refused(what, words, tmp_path):
    torch.save(what, tmp_path / "a.pt")
    with pytest.raises(checkpoint.CheckpointError, match=words):
        checkpoint.load(tmp_path / "a.pt")


def test_a_file_in_the_old_format_is_refused_with_a_command_that_converts_it(tmp_path):
    torch.save({"a": BASE}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(
        checkpoint.CheckpointError, match="run code when loaded. Old PyTorch files .* python -c"
    ) as caught:
        checkpoint.load(tmp_path / "old.pt")
    code = str(caught.value).split('python -c "')[1].removesuffix('"')
    exec(
        code.replace("old.pt", str(tmp_path / "old.pt")).replace("new.pt", str(tmp_path / "new.pt"))
    )
    np.testing.assert_array_equal(checkpoint.load(tmp_path / "new.pt")[0]["a"], BASE.numpy())


def test_a_lazily_negated_view_is_refused_until_it_is_resolved(tmp_path):
    negative = torch.view_as_complex(torch.randn(3, 2)).conj().imag
    assert negative.is_neg()
    torch.save({"w": negative}, tmp_path / "w.pt")
    with pytest.raises(checkpoint.CheckpointError, match="resolve_neg"):
        checkpoint.load(tmp_path / "w.pt")
    torch.save({"w": negative.resolve_neg()}, tmp_path / "w.pt")
    np.testing.assert_array_equal(
        checkpoint.load(tmp_path / "w.pt")[0]["w"], negative.numpy(force=True)
    )
