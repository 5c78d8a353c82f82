"""Replicas of one fit, shared out to the processes that torchrun starts, on one machine or many.

    torchrun --nproc-per-node 4 train.py --replicas 64 --bootstrap

Replicas do not depend on each other, so the processes train theirs alone; what they found meets when it is written,
and the first process goes on by itself. Without torchrun there is one process, and nothing here does anything, or
imports torch.
"""

import os

from nsi.run.files import BadInput


def rank():
    """Which process this is; 0 writes the run. Raises: BadInput where the environment says it by half."""
    return _place()[0]


def processes():
    """How many torchrun started. Raises: BadInput where the environment says it by half."""
    return _place()[1]


def _place():
    """RANK and WORLD_SIZE, which torchrun sets together with where the processes meet."""
    given = [os.environ.get(name) for name in ("RANK", "WORLD_SIZE")]
    if given == [None, None]:
        return 0, 1
    try:
        rank, size = map(int, given)
        whole = 0 <= rank < size
    except (TypeError, ValueError):
        whole = False
    if not whole:
        _refuse("RANK", "WORLD_SIZE")
    return rank, size


def _refuse(*names):
    said = [f"{name} is {os.environ[name]!r}" if name in os.environ else f"{name} is absent" for name in names]
    raise BadInput(
        f"the environment: {' and '.join(said)}; expected all that torchrun sets, or none of it: "
        "`unset RANK WORLD_SIZE`"
    )


def start(total, device):
    """Meet the other processes, if there are any, and take one GPU each. total: replicas, of all processes.

    Returns: this process's device. Raises: BadInput where there are fewer replicas than processes.
    """
    if processes() == 1:
        return device
    if total < processes():
        raise BadInput(f"argument --replicas: expected at least one for each of {processes()} processes")
    if not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        _refuse("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    import torch

    dist = torch.distributed
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return device


def finish():
    """Part from the other processes."""
    if processes() > 1:
        import torch

        torch.distributed.destroy_process_group()


def mine(total):
    """The numbers of this process's replicas, a stretch of range(total)."""
    return range(rank() * total // processes(), (rank() + 1) * total // processes()) if total > 1 else range(1)


def gather(weights, training):
    """The weights and the state of training of all processes' replicas, from this one's; all must ask for it.

    weights: {name: (replicas, ...)}; training: of a checkpoint. Returns: the same two.
    """
    if processes() == 1:
        return weights, training
    import torch

    parts = [None] * processes()
    torch.distributed.all_gather_object(parts, _on_cpu([weights, training]))
    join = lambda tensors: torch.cat(list(tensors))  # noqa: E731
    merged = {k: join(part[0][k] for part in parts) for k in weights}
    moments = [[join(part[1]["moments"][p][m] for part in parts) for m in range(2)] for p in range(len(merged))]
    generators = [generator for part in parts for generator in part[1]["generators"]]
    return merged, parts[0][1] | {"moments": moments, "generators": generators}


def scatter(weights, training, total):
    """This process's part of what `gather` put together."""
    if processes() == 1:
        return weights, training
    stretch = slice(mine(total).start, mine(total).stop)
    moments = [[moment[stretch] for moment in pair] for pair in training["moments"]]
    generators = training["generators"][stretch]
    return {k: v[stretch] for k, v in weights.items()}, training | {"moments": moments, "generators": generators}


def _on_cpu(value):
    if isinstance(value, dict):
        return {k: _on_cpu(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_on_cpu(v) for v in value]
    return value.cpu() if hasattr(value, "cpu") else value
