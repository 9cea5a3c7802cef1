"""tinycv and PyTorch under common names: the functions and classes that networks.py needs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def tinycv_parts() -> SimpleNamespace:
    import tinycv
    from tinycv import nn

    return SimpleNamespace(
        nn=nn,
        F=nn.functional,
        attention=tinycv.sequence.scaled_dot_product_attention,
        join=tinycv.concatenate,
        tensor=lambda array, device: tinycv.Tensor(array, device=device),
        modules=list,
        no_grad=tinycv.no_grad,
        grad=tinycv.grad,
        leaf=lambda x: tinycv.Tensor(x.detach(), requires_grad=True),
        parameter=lambda shape: nn.Parameter(tinycv.zeros(shape)),
        load=lambda model, state: model.load_state_dict(state, strict=False),
        LSTM=tinycv.sequence.LSTM,
        block=lambda d, heads, mlp: tinycv.sequence.TransformerEncoderLayer(d, heads, mlp, 0.0),
        causal=lambda block, x: block(x, is_causal=True),
        vit=tinycv.vision.ViT,
    )


def torch_parts() -> SimpleNamespace:
    import torch
    from torch import nn

    from benchmarks.torch_vit import TorchViT

    masks: dict[int, Any] = {}

    # with is_causal, attention does not read the mask, but PyTorch's encoder layer requires one
    def causal(block: Any, x: Any) -> Any:
        t = x.shape[1]
        if t not in masks:
            masks[t] = nn.Transformer.generate_square_subsequent_mask(t, device=x.device)
        return block(x, src_mask=masks[t], is_causal=True)

    def load(model: Any, state: dict[str, Any]) -> None:
        model.load_state_dict(
            {name: torch.from_numpy(a) for name, a in state.items()}, strict=False
        )

    return SimpleNamespace(
        nn=nn,
        F=nn.functional,
        attention=nn.functional.scaled_dot_product_attention,
        join=torch.cat,
        tensor=lambda array, device: torch.from_numpy(array).to(device),
        modules=nn.ModuleList,
        no_grad=torch.no_grad,
        grad=torch.autograd.grad,
        leaf=lambda x: x.detach().requires_grad_(True),
        parameter=lambda shape: nn.Parameter(torch.zeros(shape)),
        load=load,
        LSTM=nn.LSTM,
        block=lambda d, heads, mlp: nn.TransformerEncoderLayer(
            d, heads, mlp, 0.0, batch_first=True
        ),
        causal=causal,
        vit=TorchViT,
    )
