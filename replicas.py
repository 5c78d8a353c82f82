"""Replicas of one fit, shared out to the processes that torchrun starts, on one machine or many.

    torchrun --nproc-per-node 4 train.py --replicas 64 --bootstrap

Replicas do not depend on each other, so the processes train theirs alone; what they found meets when it is written,
and the first process goes on by itself. Without torchrun there is one process, and nothing here does anything.
"""

import os

import torch
import torch.distributed as dist

import recording

MOMENTS = ("exp_avg", "exp_avg_sq")  # Adam's


def rank():
    """Which process this is; 0 writes the run."""
    return int(os.environ.get("RANK", 0))


def processes():
    """How many torchrun started."""
    return int(os.environ.get("WORLD_SIZE", 1))


def start(total, device):
    """Meet the other processes, if there are any, and take one GPU each. total: replicas, of all processes.

    Returns: this process's device. Raises: BadInput where there are fewer replicas than processes.
    """
    if processes() == 1:
        return device
    if total < processes():
        raise recording.BadInput(f"argument --replicas: expected at least one for each of {processes()} processes")
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return device


def finish():
    """Part from the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def mine(total):
    """The numbers of this process's replicas, a stretch of range(total)."""
    return range(rank() * total // processes(), (rank() + 1) * total // processes()) if total > 1 else range(1)


def gather(state):
    """A checkpoint with the replicas of all processes, from one with this process's; all must ask for it."""
    if processes() == 1:
        return state
    parts = [None] * processes()
    dist.all_gather_object(parts, _on_cpu(state))
    whole = parts[0]
    whole["model"] = {k: torch.cat([part["model"][k] for part in parts]) for k in whole["model"]}
    for i, moments in whole["optimiser"]["state"].items():
        for k in MOMENTS:
            moments[k] = torch.cat([part["optimiser"]["state"][i][k] for part in parts])
    whole["generators"] = [generator for part in parts for generator in part["generators"]]
    return whole


def scatter(state, total):
    """This process's part of a checkpoint: the opposite of `gather`."""
    if processes() == 1:
        return state
    stretch = slice(mine(total).start, mine(total).stop)
    cut = {name: {k: p[stretch] for k, p in state[name].items()} for name in ("model", "trained") if name in state}
    moments = {
        i: {k: v[stretch] if k in MOMENTS else v for k, v in each.items()}
        for i, each in state["optimiser"]["state"].items()
    }
    optimiser = state["optimiser"] | {"state": moments}
    return state | cut | {"optimiser": optimiser, "generators": state["generators"][stretch]}


def _on_cpu(value):
    if isinstance(value, dict):
        return {k: _on_cpu(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_on_cpu(v) for v in value]
    return value.cpu() if isinstance(value, torch.Tensor) else value
