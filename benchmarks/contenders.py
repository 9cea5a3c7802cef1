"""The training steps and inference of tinycv and PyTorch that are timed; functional.py has those of
the other two libraries.

Each function here is called in the contender's own process, and returns a Work (row.py). Every
training step is forward, backward and Adam; inference records no graph.
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
    carrier: str | None = None,
    device: str = "cpu",
    wait: bool = True,
    half: bool = False,
    captured: bool = False,
    workers: int | None = None,
) -> Work:
    """carrier: what splits the batch among workers (tinycv.training.parallel): "threads",
    "processes" or "mpi"; None: the batch is not split. wait: every call waits for the device.
    half: in float16, with master weights and a scaled loss. captured: the step runs as a CUDA graph
    from its fourth call on. workers: how many; None: one per core."""
    import tinycv
    from tinycv.training.half import Half

    lib = tinycv_parts()
    model, examples = networks.build(lib, task).to(device), task.examples()

    def sent() -> list[Any]:
        return [lib.tensor(a, device) for a in examples]

    batch = sent()
    adam = partial(tinycv.optim.Adam, lr=LR)
    group = opened(carrier, workers) if carrier else None
    backward_of = group.backward if group else backward
    if not train:
        work = tinycv_inference(model.eval(), batch[0], group)
    elif isinstance(task, Gan):
        work = networks.gan_step(lib, model, adam, backward_of, *batch)
    else:
        loss_of = partial(networks.loss_of(task), lib, model)
        optimizer = Half(model, adam) if half else adam(model.parameters())
        if half:
            backward_of = partial(backward, back=optimizer.backward)
        # float16 gradients are not compared, because each library scales them differently
        named = [] if half else list(model.named_parameters())
        work = networks.train_step(named, optimizer, partial(backward_of, loss_of, *batch))
    if captured:
        work = recorded(work, list(model.named_parameters()), device)
    return work if device == "cpu" or not wait else on_tinycv(work, sent, device)


def opened(carrier: str, workers: int | None = None, **options: Any) -> Any:
    """A group of workers. It stays open as long as this process lives."""
    from tinycv.training import parallel

    if carrier == "mpi":  # mpiexec says how many
        return parallel.mpi(**options)
    return getattr(parallel, carrier)(workers or threads())


def recorded(work: Work, named: list[tuple[str, Any]], device: str) -> Work:
    """A training step as one CUDA graph. After a launch, its gradients are in the parameters."""
    import tinycv

    step = tinycv.captured(
        lambda: {name: value for name, value in work().items() if name.startswith("loss")}, device
    )
    return lambda: {**step(), **networks.gradients(named)}


def tinycv_inference(model: Any, x: Any, group: Any) -> Work:
    import tinycv

    def infer(x: Any) -> Any:
        with tinycv.no_grad():  # each thread needs its own
            return model(x)

    return lambda: {"result": group.map(infer, x) if group else infer(x)}


def backward(loss_of: Callable[..., Any], *batch: Any, back: Callable | None = None) -> Any:
    """Compute the loss, leave its gradients in the parameters, and return it. back(loss): called
    instead of loss.backward()."""
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
    """channels_last: images and kernels are (B, H, W, C) in memory. compiled: torch.compile for
    forward and loss. device: with "cuda", every call waits for the device. half: autocast to
    float16, with a scaled loss. captured: the step runs as a CUDA graph."""
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
    """A training step as one CUDA graph, recorded as PyTorch's manual describes. Its first call
    returns the results of the very first step, so that the gate can compare them."""
    import torch

    first_results = {name: value.detach().clone() for name, value in work().items()}
    warmup_stream = torch.cuda.Stream()
    warmup_stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warmup_stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(warmup_stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        graph_results = work()
    results_once = iter([first_results])

    def replay() -> dict[str, Any]:
        graph.replay()
        return next(results_once, graph_results)

    return replay


def by_autocast(optimizer: Any, loss_of: Callable[[], Any], device: str) -> Work:
    """PyTorch's recipe for float16: weights stay float32, and every product casts its factors."""
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
