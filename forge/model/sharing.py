"""Work shared by several processes, through accelerate: each takes a part of a batch, and all know the result.

Where there is one process nothing is done. All of them draw the same random numbers, so a batch is the same in each,
and gradients are sums over it: equal to one process's but for the order of the sums, however uneven the parts are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from forge import processes


def start() -> None:
    """Meet the other processes. Before the base is loaded: that puts it on this process's own device."""
    if processes.count() == 1:
        return
    from accelerate import PartialState

    with _together("the processes of this run could not meet"):
        state = PartialState(cpu=not torch.accelerator.is_available())
    if state.num_processes != processes.count():
        raise processes.PeerLostError(f"{state.num_processes} of {processes.count()} processes have met")


def leave() -> None:
    """Wait until nobody needs this process any more."""
    if processes.count() > 1 and torch.distributed.is_initialized():
        with _together():
            torch.distributed.barrier()
        torch.distributed.destroy_process_group()


@contextmanager
def main_first() -> Iterator[None]:
    """A block that the main process runs before the others do."""
    if processes.count() > 1 and not processes.is_main():
        summed(torch.zeros(1))
    yield
    if processes.count() > 1 and processes.is_main():
        summed(torch.zeros(1))


def own_part(count: int) -> slice:
    """Which of `count` things are this process's: as many as the others', or one more."""
    size, rest = divmod(count, processes.count())
    rank = processes.rank()
    first = rank * size + min(rank, rest)
    return slice(first, first + size + (rank < rest))


def gathered(part: Tensor, count: int) -> Tensor:
    """[count, ...] of which `part` are the rows of own_part(count); the others' carry no gradient."""
    if processes.count() == 1:
        return part
    own = own_part(count)
    whole = torch.zeros(count, *part.shape[1:], dtype=part.dtype, device=part.device)
    whole[own] = part.detach()
    whole = summed(whole)
    return torch.cat([whole[: own.start], part, whole[own.stop :]])


def summed(part: Tensor) -> Tensor:
    """The sum of what every process gives; without a gradient."""
    if processes.count() == 1:
        return part
    from accelerate import PartialState
    from accelerate.utils import reduce

    with _together():
        total: Tensor = reduce(part.detach().to(PartialState().device), "sum")
    return total.to(part.device)


def summed_all(parts: Sequence[Tensor]) -> list[Tensor]:
    """As `summed` for each, in one exchange."""
    if processes.count() == 1:
        return list(parts)
    flat = summed(torch.cat([part.detach().flatten() for part in parts]))
    sizes = [part.numel() for part in parts]
    return [values.view(part.shape) for values, part in zip(torch.split(flat, sizes), parts, strict=True)]


@contextmanager
def _together(what: str = "another process of this run has ended") -> Iterator[None]:
    """What torch says where another process has gone, or has not come, becomes one error."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise processes.PeerLostError(f"{what}: {error}") from error
