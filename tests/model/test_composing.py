"""Fusion and Mixture against tensors computed by hand and against PEFT's own forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import merged_delta
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel

from forge.errors import ForgeError
from forge.model.adapters import Adapter, LowRank
from forge.model.attention import VisualTower, adaptable_modules
from forge.model.base import BaseModel
from forge.model.composing import folded
from forge.model.strategies.fusion import check_fusable

MakeAdapter = Callable[..., Path]
ReadAdapter = Callable[[Path], Adapter]

ROW = LowRank(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [0.0], [2.0]]), 2.0)  # alpha 2, rank 1
OTHER = LowRank(torch.tensor([[3.0, -1.0]]), torch.tensor([[0.0], [1.0], [1.0]]), 1.0)


def test_mixture_by_hand() -> None:
    # 2 * .5 * [1 0 2]^T [1 2] + (-1) * [0 1 1]^T [3 -1]
    expected = [[1.0, 2.0], [-3.0, 1.0], [2.0 - 3.0, 4.0 + 1.0]]
    assert merged_delta("mixture", [({"m": ROW}, 0.5), ({"m": OTHER}, -1.0)])["m"].tolist() == expected


def test_fusion_by_hand_has_cross_terms() -> None:
    # A = .5 [1 2] - [3 -1] = [-2.5 2];  B = .5 * 2 [1 0 2]^T - [0 1 1]^T = [1 -1 1]^T
    expected = [[-2.5, 2.0], [2.5, -2.0], [-2.5, 2.0]]
    assert merged_delta("fusion", [({"m": ROW}, 0.5), ({"m": OTHER}, -1.0)])["m"].tolist() == expected


def random_adapter(seed: int, rank: int = 3, names: Sequence[str] = ("m", "n")) -> Adapter:
    random = np.random.default_rng(seed)
    return {
        name: LowRank(
            torch.from_numpy(random.normal(size=(rank, 5)).astype("f4")),
            torch.from_numpy(random.normal(size=(4, rank)).astype("f4")),
            float(random.uniform(0.5, 2)),
        )
        for name in names
    }


def by_hand(strategy: str, members: Sequence[tuple[Adapter, float]], name: str) -> np.ndarray:
    """Eq. 3 and 4 in double precision, one number at a time."""
    parts = [(adapter[name], c) for adapter, c in members if name in adapter]
    if strategy == "mixture":
        total = np.zeros((4, 5))
        for module, c in parts:
            total += c * module.scaling * (module.b.double().numpy() @ module.a.double().numpy())
        return total
    rank = parts[0][0].rank
    a, b = np.zeros((rank, 5)), np.zeros((4, rank))
    for module, c in parts:
        a += c * module.a.double().numpy()
        b += c * module.scaling * module.b.double().numpy()
    return b @ a


coefficients = st.floats(-1.5, 1.5, width=32)


@settings(max_examples=30, deadline=None)
@given(
    strategy=st.sampled_from(["fusion", "mixture"]),
    members=st.lists(
        st.tuples(st.integers(0, 50), coefficients, st.sampled_from([("m",), ("n",), ("m", "n")])),
        min_size=1,
        max_size=5,
    ),
)
def test_any_recipe_by_hand(strategy: str, members: list[tuple[int, float, tuple[str, ...]]]) -> None:
    recipe = [(random_adapter(seed, names=names), c) for seed, c, names in members]
    delta = merged_delta(strategy, recipe)
    assert sorted(delta) == sorted({name for _, _, names in members for name in names})
    for name, found in delta.items():
        np.testing.assert_allclose(found.numpy(), by_hand(strategy, recipe, name), rtol=1e-4, atol=1e-4)


def unrolled_coefficients(scales: Sequence[tuple[float, float]]) -> list[float]:
    """c_k <- w_i c_k at every merge, c_i = w'_i, from a first contribution at 1."""
    c = [1.0]
    for w, w_new in scales:
        c = [w * each for each in c] + [w_new]
    return c


@settings(max_examples=30, deadline=None)
@given(
    strategy=st.sampled_from(["fusion", "mixture"]),
    scales=st.lists(st.tuples(coefficients, coefficients), min_size=1, max_size=4),
)
def test_merges_one_after_the_other_are_the_unrolled_coefficients(
    strategy: str, scales: list[tuple[float, float]]
) -> None:
    """theta_i from theta_{i-1} as the paper writes it, against one composition with c_k <- w_i c_k, c_i = w'_i."""
    adapters = [random_adapter(seed) for seed in range(len(scales) + 1)]
    a = {name: module.a.double() for name, module in adapters[0].items()}
    b = {name: (module.scaling * module.b).double() for name, module in adapters[0].items()}
    dw = {name: b[name] @ a[name] for name in a}
    for new, (w, w_new) in zip(adapters[1:], scales, strict=True):
        for name, module in new.items():
            a[name] = w * a[name] + w_new * module.a
            b[name] = w * b[name] + w_new * module.scaling * module.b
            dw[name] = w * dw[name] + w_new * (module.scaling * module.b.double()) @ module.a.double()
    unrolled = merged_delta(strategy, list(zip(adapters, unrolled_coefficients(scales), strict=True)))
    for name, found in unrolled.items():
        expected = b[name] @ a[name] if strategy == "fusion" else dw[name]
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-3, atol=1e-3)


def embed_with_peft(
    tower: VisualTower, folders: Sequence[Path], c: Sequence[float], images: torch.Tensor
) -> torch.Tensor:
    """Every layer's output plus the weighted LoRA outputs, by PEFT's own forward."""
    model = PeftModel.from_pretrained(tower, str(folders[0]), adapter_name="0")
    for number, folder in enumerate(folders[1:], 1):
        model.load_adapter(str(folder), adapter_name=str(number))
    names = [str(number) for number in range(len(folders))]
    model.base_model.set_adapter(names)
    for layer in model.modules():
        if hasattr(layer, "lora_A"):
            for name, weight in zip(names, c, strict=True):
                if name in layer.scaling:
                    layer.scaling[name] *= weight
    with torch.no_grad():
        return model.eval()(images)  # type: ignore[no-any-return]


@pytest.mark.parametrize("strategy", ["fusion", "mixture"])
@pytest.mark.usefixtures("untouched")
def test_one_adapter_at_coefficient_one_is_pefts_forward_of_it(
    strategy: str,
    base: BaseModel,
    fresh_tower: Callable[[], VisualTower],
    make_adapter: MakeAdapter,
    read: ReadAdapter,
    images: torch.Tensor,
) -> None:
    folder = make_adapter(4, rank=3, alpha=7)
    expected = embed_with_peft(fresh_tower(), [folder], [1.0], images)
    with torch.no_grad(), folded(base.tower, merged_delta(strategy, [(read(folder), 1.0)])):
        torch.testing.assert_close(base.tower(images), expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert float((base.tower(images) - expected).abs().max()) > 0.01  # the adapter does something


@pytest.mark.usefixtures("untouched")
def test_mixture_is_the_sum_of_lora_outputs_at_every_layer(
    base: BaseModel,
    fresh_tower: Callable[[], VisualTower],
    make_adapter: MakeAdapter,
    read: ReadAdapter,
    images: torch.Tensor,
) -> None:
    """Three adapters of unequal rank and alpha, one of them on the projection only."""
    folders = [make_adapter(1, 2, 8), make_adapter(2, 4, 4), make_adapter(3, 6, 3, modules=["projection"])]
    c = [0.7, -0.4, 1.3]
    expected = embed_with_peft(fresh_tower(), folders, c, images)
    delta = merged_delta("mixture", [(read(folder), each) for folder, each in zip(folders, c, strict=True)])
    with torch.no_grad(), folded(base.tower, delta):
        torch.testing.assert_close(base.tower(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("strategy", "peft_name"), [("mixture", "cat"), ("fusion", "linear")])
def test_pefts_weighted_adapter(
    strategy: str,
    peft_name: str,
    base: BaseModel,
    fresh_tower: Callable[[], VisualTower],
    make_adapter: MakeAdapter,
    read: ReadAdapter,
    images: torch.Tensor,
) -> None:
    """add_weighted_adapter: `cat` is Mixture; `linear` weighs A and B by sqrt(w * scaling) each."""
    folders = [make_adapter(1), make_adapter(2)]
    c = [0.9, 0.4]
    model = PeftModel.from_pretrained(fresh_tower(), str(folders[0]), adapter_name="a")
    model.load_adapter(str(folders[1]), adapter_name="b")
    weights = c if strategy == "mixture" else [each * each for each in c]
    model.add_weighted_adapter(["a", "b"], weights, "both", combination_type=peft_name)
    model.base_model.set_adapter("both")
    members = [(read(folder), each) for folder, each in zip(folders, c, strict=True)]
    with torch.no_grad(), folded(base.tower, merged_delta(strategy, members)):
        torch.testing.assert_close(base.tower(images), model.eval()(images), rtol=1e-5, atol=1e-5)


def test_unequal_ranks_are_for_mixture_only() -> None:
    two, three = random_adapter(0, rank=2), random_adapter(1, rank=3)
    members = [(two, 1.0), (three, 0.5)]
    np.testing.assert_allclose(
        merged_delta("mixture", members)["m"], by_hand("mixture", members, "m"), rtol=1e-4, atol=1e-4
    )
    with pytest.raises(ForgeError, match="m has rank 2 in one contribution and 3 in another") as caught:
        merged_delta("fusion", members)
    assert "mixture" in (caught.value.hint or "")
    # unequal ranks of different modules never meet
    check_fusable([random_adapter(0, rank=2, names=("m",)), random_adapter(1, rank=3, names=("n",))])


def test_an_empty_recipe_changes_nothing() -> None:
    assert merged_delta("mixture", []) == {} == merged_delta("fusion", [])


@pytest.mark.usefixtures("untouched")
def test_folding_is_undone_exactly_whatever_happens(base: BaseModel, images: torch.Tensor) -> None:
    modules = adaptable_modules(base.tower)
    generator = torch.Generator().manual_seed(0)
    delta = {
        name: torch.randn(modules[name].weight.shape, generator=generator)
        for name in ("projection", "trunk.transformer.resblocks.1.attn.v_proj")
    }
    before = {name: module.weight.data for name, module in modules.items()}
    for error in (RuntimeError, KeyboardInterrupt, GeneratorExit):
        with pytest.raises(error), folded(base.tower, delta) as tower:
            assert tower is base.tower
            torch.testing.assert_close(modules["projection"].weight.data, before["projection"] + delta["projection"])
            with folded(base.tower, {"projection": delta["projection"]}):  # one within the other
                expected = before["projection"] + delta["projection"] + delta["projection"]
                torch.testing.assert_close(modules["projection"].weight.data, expected)
            raise error
    assert all(modules[name].weight.data_ptr() == weight.data_ptr() for name, weight in before.items())
    with pytest.raises(RuntimeError), folded(base.tower, {**delta, "projection": torch.ones(3, 5)}):
        pass
    assert all(modules[name].weight.data_ptr() == weight.data_ptr() for name, weight in before.items())
