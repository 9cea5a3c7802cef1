"""How tinycv and PyTorch take a task's training step, or its inference: the Work that measure.py
times. functional.py has the other two libraries.

Called in a process of its own. Every training step is forward, backward and Adam; every inference
records nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks import networks
from benchmarks.device import on_tinycv, on_torch, same_tf32
from benchmarks.libraries import tinycv_parts, torch_parts
from benchmarks.row import Work
from benchmarks.tasks import Gan, Task
from benchmarks.work import LR, threads


def by_tinycv(
    task: Task,
    train: bool,
    split: bool = False,
    device: str = "cpu",
    wait: bool = True,
    half: bool = False,
    captured: bool = False,
) -> Work:
    """split: the batch is cut into a part for each core (tinycv.training.parallel). wait: for the
    device, in every call.
    half: in float16, with master weights and a scaled loss. captured: the step is a CUDA graph from
    its fourth call on."""
    import tinycv
    from tinycv.training.half import Half

    lib = tinycv_parts()
    model, examples = networks.build(lib, task).to(device), task.examples()

    def sent() -> list[Any]:
        return [lib.tensor(a, device) for a in examples]

    batch = sent()
    adam = partial(tinycv.optim.Adam, lr=LR)
    group = None
    if split:
        from tinycv.training import parallel

        group = parallel.threads(threads())
        # for as long as this process lives
        group.__enter__()
    there_and_back = group.backward if group else backward
    if not train:
        work = tinycv_inference(model.eval(), batch[0], group)
    elif isinstance(task, Gan):
        work = networks.gan_step(lib, model, adam, there_and_back, *batch)
    else:
        loss_of = partial(networks.loss_of(task), lib, model)
        optimizer = Half(model, adam) if half else adam(model.parameters())
        back = partial(backward, back=optimizer.backward) if half else there_and_back
        # gradients in halves are scaled, by each in its own way
        named = [] if half else list(model.named_parameters())
        work = networks.train_step(named, optimizer, partial(back, loss_of, *batch))
    if captured:
        work = recorded(work, list(model.named_parameters()), device)
    return work if device == "cpu" or not wait else on_tinycv(work, sent, device)


def recorded(work: Work, named: list[tuple[str, Any]], device: str) -> Work:
    """A training step as one CUDA graph. Its gradients are those that the last launch left in the
    parameters."""
    import tinycv

    step = tinycv.captured(
        lambda: {name: value for name, value in work().items() if name.startswith("loss")}, device
    )
    return lambda: {**step(), **networks.gradients(named)}


def tinycv_inference(model: Any, x: Any, group: Any) -> Work:
    import tinycv

    def infer(x: Any) -> Any:
        with tinycv.no_grad():  # of each thread
            return model(x)

    return lambda: {"result": group.map(infer, x) if group else infer(x)}


def backward(loss_of: Callable[..., Any], *batch: Any, back: Callable | None = None) -> Any:
    """The loss; its gradients are left in the parameters. back(loss): what does that, where
    loss.backward() does not."""
    loss = loss_of(*batch)
    (back or type(loss).backward)(loss)
    return loss


def by_torch(
    task: Task,
    train: bool,
    channels_last: bool = False,
    compiled: bool = False,
    device: str = "cpu",
    half: bool = False,
    captured: bool = False,
) -> Work:
    """channels_last: images and kernels as (B, H, W, C) in memory. compiled: forward and loss by
    torch.compile.
    device: "cuda" needs everything waited for. half: autocast to float16, with a scaled loss.
    captured: a CUDA graph."""
    import torch

    torch.set_num_threads(threads())
    lib = torch_parts()
    model, examples = networks.build(lib, task).to(device), task.examples()

    def sent() -> list[Any]:
        return [lib.tensor(a, device) for a in examples]

    batch = sent()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        batch = [a.to(memory_format=torch.channels_last) if a.ndim == 4 else a for a in batch]
    adam = partial(torch.optim.Adam, lr=LR, fused=True, capturable=captured)
    if not train:
        return torch_inference(model.eval(), batch[0])
    if isinstance(task, Gan):
        work = networks.gan_step(lib, model, adam, backward, *batch)
    else:
        loss_of = partial(networks.loss_of(task), lib, model)
        if compiled:
            loss_of = torch.compile(loss_of)
        optimizer = adam(model.parameters())
        if half:
            work = by_autocast(optimizer, partial(loss_of, *batch), device)
        else:
            named = list(model.named_parameters())
            work = networks.train_step(named, optimizer, partial(backward, loss_of, *batch))
    if device == "cpu":
        return work
    same_tf32()
    work = recorded_by_torch(work) if captured else work
    return on_torch(work, sent)


def recorded_by_torch(work: Work) -> Work:
    """A training step as one CUDA graph, as PyTorch's manual has it; its first call is the first
    step all the same."""
    import torch

    first, side = work(), torch.cuda.Stream()
    kept = {name: value.detach().clone() for name, value in first.items()}
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = work()
    answers = iter([kept])

    def replay() -> dict[str, Any]:
        graph.replay()
        return next(answers, found)

    return replay


def by_autocast(optimizer: Any, loss_of: Callable[[], Any], device: str) -> Work:
    """PyTorch's own recipe for float16: weights stay float32, and every op casts what it
    multiplies."""
    import torch

    scaler = torch.amp.GradScaler(device)

    def work() -> dict[str, Any]:
        optimizer.zero_grad()
        with torch.autocast(device, torch.float16):
            loss = loss_of()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return {"loss": loss}

    return work


def torch_inference(model: Any, x: Any) -> Work:
    import torch

    def work() -> dict[str, Any]:
        with torch.inference_mode():
            return {"result": model(x)}

    return work
