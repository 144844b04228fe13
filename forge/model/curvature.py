"""How the answers to every image move with the coefficients, and the quadratic model of the objective that follows.

A loss is a softmax cross-entropy of logits z, and z moves with the coefficients as dz = J dc. The Gauss-Newton matrix,
the sum of J^T (diag p - p p^T) J, takes the curvature of the loss as it is and the logits as linear in the coefficients
(Schraudolph (2002), section 3). One pass forward gives it together with the gradient, and one pass back for each
difference of two logits: for tasks of two classes it costs what the gradient does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forge.model.aims import Aim, batches_of, floor_of
from forge.model.attention import VisualTower, adaptable_modules
from forge.model.base import BaseModel

EXACT_CLASSES = 5  # for more of them, the gradient and the directions in which most of the curvature lies
DIRECTIONS = 3
_AT_ONCE = 16 * 2**20  # numbers of dW that are made at once: 64 MiB
_KEPT = 32 * 2**20  # and that are held for all batches: 128 MiB

# Of an adapted module: how its dW moves with the coefficients of some members [members, out, in].
Directions = Callable[[str, range], Tensor]


@dataclass(frozen=True)
class Quadratic:
    """An objective near a point: its value, gradient [n] and Gauss-Newton matrix [n, n], in double precision.

    inner: the same in the variables that these ones stand for, where they do.
    """

    value: float
    gradient: Tensor
    matrix: Tensor
    inner: Quadratic | None = None


def quadratic_of(
    base: BaseModel, aims: Sequence[Aim], names: Sequence[str], members: int, directions: Directions
) -> Quadratic:
    """The aims' loss of the tower as it stands (fold the change in first), by coefficient: n = members * modules."""
    size = members * len(names)
    gradient = torch.zeros(size, dtype=torch.float64)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    value = -floor_of(aims)
    directions = _kept(directions, members * sum(adaptable_modules(base.tower)[name].weight.numel() for name in names))
    for batch in batches_of(base, aims):
        texts = base.text_embeddings(batch.labels)
        with torch.enable_grad(), _watched(base.tower, names) as seen:
            embedded = F.normalize(base.tower(base.prepare(batch.pixels)), dim=-1)
            logits = base.logit_scale * embedded @ texts.T
        log_p = logits.detach().log_softmax(-1)
        weights = batch.weights.double()
        rows, errors, roots = differences(log_p.exp(), batch.targets)
        moves = torch.stack([_moves(logits, row, seen, names, members, directions) for row in rows])
        value -= float(batch.weights @ (batch.targets * log_p).sum(-1))
        gradient += torch.einsum("rb,rbn->n", errors * weights, moves).cpu()
        curved = torch.einsum("brs,rbn->bsn", roots * weights.sqrt()[:, None, None], moves).flatten(0, 1).cpu()
        matrix += curved.T @ curved
    return Quadratic(value, gradient, matrix)


def _kept(directions: Directions, numbers: int) -> Directions:
    """The same, made once for all batches where they are not too many `numbers` to be held."""
    if numbers > _KEPT:
        return directions
    known: dict[tuple[str, range], Tensor] = {}

    def change(name: str, some: range) -> Tensor:
        if (name, some) not in known:
            known[name, some] = directions(name, some)
        return known[name, some]

    return change


def differences(p: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How far logits are to be moved in which directions, from probabilities and targets [images, classes].

    Gives directions v [r, images, classes] in the space of logits, e [r, images] with sum_r e_r v_r = p - targets, and
    roots L [images, r, s] in double precision with V^T L L^T V = diag p - p p^T; of that the greatest part alone,
    where there are more than EXACT_CLASSES.
    """
    count, classes = p.shape
    wrong = (p - targets).double()
    curvature = torch.diag_embed(p.double()) - p.double()[:, :, None] * p.double()[:, None, :]
    if classes <= EXACT_CLASSES:
        # A shift of all logits changes nothing: what counts are their differences from the first one.
        apart = torch.eye(classes)[1:] - torch.eye(classes)[:1]
        rows = apart[:, None, :].expand(-1, count, -1).to(p)
        return rows, wrong[:, 1:].T, _root(curvature[:, 1:, 1:])
    spread, vectors = torch.linalg.eigh(curvature)
    greatest = vectors[:, :, -DIRECTIONS:].permute(2, 0, 1)
    rows = torch.cat([wrong[None], greatest]).to(p)
    errors = torch.zeros(len(rows), count, dtype=torch.float64, device=p.device)
    errors[0] = 1
    roots = torch.zeros(count, len(rows), DIRECTIONS, dtype=torch.float64, device=p.device)
    roots[:, 1:] = torch.diag_embed(spread[:, -DIRECTIONS:].clamp_min(0).sqrt())
    return rows, errors, roots


def _root(matrices: Tensor) -> Tensor:
    """R [n, k, k] with R R^T = the given symmetric matrices [n, k, k] without negative eigenvalues."""
    spread, vectors = torch.linalg.eigh(matrices)
    root: Tensor = vectors * spread.clamp_min(0).sqrt()[:, None, :]
    return root


@contextmanager
def _watched(tower: VisualTower, names: Sequence[str]) -> Iterator[dict[str, list[tuple[Tensor, Tensor]]]]:
    """In the block, what goes in and comes out of adapted modules is kept, and gradients reach what comes out."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in names}

    def keeper(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def keep(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
            output.requires_grad_()
            seen[name].append((arguments[0].detach(), output))
            return output

        return keep

    modules = adaptable_modules(tower)
    handles = [modules[name].register_forward_hook(keeper(name)) for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _moves(
    logits: Tensor,
    row: Tensor,
    seen: Mapping[str, Sequence[tuple[Tensor, Tensor]]],
    names: Sequence[str],
    members: int,
    directions: Directions,
) -> Tensor:
    """How each image's row . z moves with each coefficient [images, members * modules], in double precision.

    The images of a batch do not look at each other, so one pass back gives the gradients of them all. By a weight it
    is the sum over tokens of what comes back times what went in; by a coefficient, that times the direction of dW.
    """
    calls = [(name, given, output) for name in names for given, output in seen[name]]
    outputs = [output for _, _, output in calls]
    with torch.enable_grad():
        backs = torch.autograd.grad((logits * row).sum(), outputs, retain_graph=True, allow_unused=True)
    moves = torch.zeros(len(logits), members, len(names), dtype=torch.float64, device=logits.device)
    for (name, given, _), back in zip(calls, backs, strict=True):
        if back is None:
            continue
        by_weight = torch.einsum("nto,nti->noi", _tokens(back), _tokens(given)).flatten(1)
        at_once = max(1, _AT_ONCE // by_weight.shape[1])
        for first in range(0, members, at_once):
            some = range(first, min(first + at_once, members))
            change = directions(name, some).flatten(1)
            moves[:, first : some.stop, names.index(name)] += (by_weight @ change.T).double()
    return moves.flatten(1)


def _tokens(values: Tensor) -> Tensor:
    """[images, ..., width] as [images, tokens, width]."""
    return values.reshape(len(values), -1, values.shape[-1])
