"""What other tools make of an exported model: PEFT and open_clip load it without git forge."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from composed import merged_delta
from hypothesis import assume, given
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file

from forge.errors import ForgeError
from forge.model.adapters import Adapter, LowRank, parameter_count
from forge.model.attention import VisualTower
from forge.model.base import BaseModel, load_base
from forge.model.composing import folded
from forge.model.exporting import concatenated, delta_of, export_open_clip, export_peft
from forge.model.strategies import compose

MakeAdapter = Callable[..., Path]
ReadAdapter = Callable[[Path], Adapter]
LABELS = ["benign lung tissues", "lung adenocarcinomas"]


@pytest.fixture
def members(make_adapter: MakeAdapter, read: ReadAdapter) -> list[tuple[Adapter, float]]:
    """Three adapters, one of which leaves the attention alone."""
    folders = [make_adapter(1), make_adapter(2, alpha=3), make_adapter(3, alpha=5, modules=["projection"])]
    return list(zip(map(read, folders), [0.7, -0.4, 1.3], strict=True))


def embedded(base: BaseModel, strategy: str, members: list[tuple[Adapter, float]], images: torch.Tensor) -> Any:
    with torch.no_grad(), folded(base.tower, merged_delta(strategy, members)):
        return base.tower(images)


@pytest.mark.parametrize(("strategy", "rank"), [("fusion", 4), ("mixture", 12)])
@pytest.mark.usefixtures("untouched")
def test_a_peft_folder_does_what_the_recipe_does(
    strategy: str,
    rank: int,
    base: BaseModel,
    fresh_tower: Callable[[], VisualTower],
    members: list[tuple[Adapter, float]],
    read: ReadAdapter,
    images: torch.Tensor,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "deep" / "exported"
    assert export_peft(base, strategy, members, folder) == ("LoRA", rank)
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    expected = embedded(base, strategy, members, images)
    model = PeftModel.from_pretrained(fresh_tower(), str(folder)).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == f"git-forge:{base.fingerprint}"
    again = read(folder)
    torch.testing.assert_close(embedded(base, strategy, [(again, 1.0)], images), expected, rtol=1e-5, atol=1e-5)
    assert parameter_count(again) == rank * (4 * (64 + 64) + (64 + 32))


def test_unequal_ranks_in_one_peft_folder(
    base: BaseModel,
    fresh_tower: Callable[[], VisualTower],
    make_adapter: MakeAdapter,
    read: ReadAdapter,
    images: torch.Tensor,
    tmp_path: Path,
) -> None:
    members = [(read(make_adapter(1, rank=2)), 0.5), (read(make_adapter(2, rank=5)), 0.8)]
    assert export_peft(base, "mixture", members, tmp_path / "out") == ("LoRA", 7)
    model = PeftModel.from_pretrained(fresh_tower(), str(tmp_path / "out")).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(images), embedded(base, "mixture", members, images), rtol=1e-5, atol=1e-5)
    with pytest.raises(ForgeError, match="equal ranks"):
        export_peft(base, "fusion", members, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_model_without_contributions_has_no_adapter(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(ForgeError, match="no contributions") as caught:
        export_peft(base, "mixture", [], tmp_path / "out")
    assert "--format open_clip" in (caught.value.hint or "")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("strategy", ["fusion", "mixture"])
@pytest.mark.usefixtures("untouched")
def test_open_clip_loads_the_folded_model(
    strategy: str,
    base: BaseModel,
    members: list[tuple[Adapter, float]],
    images: torch.Tensor,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "exported"
    assert export_open_clip(base, delta_of(strategy, members), folder) is None
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.no_grad():
        found = model.eval().encode_image(images)
        torch.testing.assert_close(found, embedded(base, strategy, members, images), rtol=1e-5, atol=1e-5)
        texts = model.encode_text(tokenizer(LABELS), normalize=True)
    torch.testing.assert_close(texts, base.text_embeddings(tuple(LABELS)), rtol=1e-5, atol=1e-5)
    assert float(model.logit_scale.detach().exp()) == pytest.approx(base.logit_scale)
    assert (tuple(transform.transforms[-1].mean), tuple(transform.transforms[-1].std)) == (base.mean, base.std)


def test_the_base_exported_is_the_base(base: BaseModel, base_folder: Path, tmp_path: Path) -> None:
    export_open_clip(base, {}, tmp_path / "out")
    before, after = (load_file(folder / "open_clip_model.safetensors") for folder in (base_folder, tmp_path / "out"))
    assert sorted(after) == sorted(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert load_base(str(tmp_path / "out")).fingerprint == base.fingerprint


def test_the_words_of_the_tokeniser_go_along(base_folder: Path, tmp_path: Path) -> None:
    from open_clip.tokenizer import default_bpe

    source = Path(shutil.copytree(base_folder, tmp_path / "source"))
    shutil.copyfile(default_bpe(), source / "words.txt.gz")
    config = json.loads((source / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"bpe_path": "words.txt.gz"}
    (source / "open_clip_config.json").write_text(json.dumps(config))
    base = load_base(str(source))
    words = export_open_clip(base, {}, tmp_path / "out")
    shutil.rmtree(source)
    assert words == tmp_path / "out" / "words.txt.gz"
    written = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())
    assert written["model_cfg"]["text_cfg"]["tokenizer_kwargs"] == {"bpe_path": "words.txt.gz"}
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    tokens = open_clip.get_tokenizer(f"local-dir:{moved}", bpe_path=str(moved / "words.txt.gz"))(LABELS)
    assert torch.equal(tokens, base.tokenizer(LABELS))
    assert load_base(str(moved)).fingerprint == base.fingerprint


# Coefficients per module, output level, consolidation.


@pytest.mark.parametrize("strategy", ["fusion", "mixture"])
def test_coefficients_per_module(
    strategy: str,
    base: BaseModel,
    fresh_tower: Callable[[], VisualTower],
    members: list[tuple[Adapter, float]],
    images: torch.Tensor,
    tmp_path: Path,
) -> None:
    """A module that a mapping does not name has the coefficient 0."""
    generator = torch.Generator().manual_seed(3)
    named: list[tuple[Adapter, Any]] = [
        (adapter, {name: float(torch.randn((), generator=generator)) for name in adapter}) for adapter, _ in members
    ]
    del named[0][1]["projection"]
    export_peft(base, strategy, named, tmp_path / "out")
    assert same_as_in_peft(fresh_tower(), tmp_path / "out", embedded(base, strategy, named, images), images)
    if strategy == "mixture":
        expected = base.tower.projection.weight.clone()
        for adapter, coefficients in named[1:]:
            expected = expected + coefficients["projection"] * adapter["projection"].delta()
        merged: Any = PeftModel.from_pretrained(fresh_tower(), str(tmp_path / "out")).merge_and_unload()
        torch.testing.assert_close(merged.projection.weight, expected, rtol=1e-5, atol=1e-6)


def test_several_models_are_not_exported_as_one(
    base: BaseModel, members: list[tuple[Adapter, float]], tmp_path: Path
) -> None:
    weighed = [(adapter, abs(c)) for adapter, c in members]
    with pytest.raises(ForgeError, match="mixture-output weighs the predictions of 3 models") as caught:
        export_peft(base, "mixture-output", weighed, tmp_path / "out")
    assert "git forge predict" in (caught.value.hint or "")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ForgeError, match="mixture-output weighs the predictions of 3 models"):
        delta_of("mixture-output", weighed)


@pytest.mark.parametrize("coefficient", [0.3, 1.0, 2.0])
def test_an_output_level_mixture_of_one_is_that_one(
    coefficient: float,
    base: BaseModel,
    fresh_tower: Callable[[], VisualTower],
    members: list[tuple[Adapter, float]],
    images: torch.Tensor,
    tmp_path: Path,
) -> None:
    weighed = [(members[0][0], 0.0), (members[1][0], coefficient)]
    assert export_peft(base, "mixture-output", weighed, tmp_path / "out") == ("LoRA", 4)
    wanted = embedded(base, "mixture", [(members[1][0], 1.0)], images)
    assert same_as_in_peft(fresh_tower(), tmp_path / "out", wanted, images)
    ((delta, _),) = compose("mixture-output", weighed)
    with torch.no_grad(), folded(base.tower, delta):
        torch.testing.assert_close(base.tower(images), wanted)


@pytest.mark.parametrize(("strategy", "rank"), [("fusion", 8), ("mixture", 16)])
@pytest.mark.parametrize("dora", [False, True])
def test_a_consolidation_is_added_to_either(
    strategy: str,
    rank: int,
    dora: bool,
    base: BaseModel,
    fresh_tower: Callable[[], VisualTower],
    members: list[tuple[Adapter, float]],
    make_adapter: MakeAdapter,
    read: ReadAdapter,
    images: torch.Tensor,
    tmp_path: Path,
) -> None:
    residual = read(make_adapter(9, use_dora=dora))
    found = export_peft(base, strategy, members, tmp_path / "out", residual=residual)
    assert found == ("DoRA" if dora else "LoRA", rank)
    merged = merged_delta(strategy, members)
    with torch.no_grad(), folded(base.tower, {name: merged[name] + residual[name].delta() for name in merged}):
        wanted = base.tower(images)
    assert same_as_in_peft(fresh_tower(), tmp_path / "out", wanted, images)


# DoRA.


def same_as_in_peft(tower: VisualTower, folder: Path, wanted: torch.Tensor, images: torch.Tensor) -> bool:
    """The folder as PEFT loads it gives the embeddings wanted, to 1e-5 of their size."""
    model = PeftModel.from_pretrained(tower, str(folder)).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(images), wanted, rtol=1e-5, atol=2e-5)
    return True


@pytest.fixture
def doras(make_adapter: MakeAdapter, read: ReadAdapter) -> list[tuple[Adapter, float]]:
    """Two DoRAs, one of which leaves the attention alone."""
    folders = [make_adapter(4, use_dora=True), make_adapter(5, alpha=3, modules=["projection"], use_dora=True)]
    return list(zip(map(read, folders), [0.7, -0.4], strict=True))


@pytest.mark.parametrize(("strategy", "rank"), [("fusion", 4), ("mixture", 8)])
@pytest.mark.usefixtures("untouched")
def test_a_recipe_of_doras_is_one_dora(
    strategy: str,
    rank: int,
    base: BaseModel,
    fresh_tower: Callable[[], VisualTower],
    doras: list[tuple[Adapter, float]],
    read: ReadAdapter,
    images: torch.Tensor,
    tmp_path: Path,
) -> None:
    assert export_peft(base, strategy, doras, tmp_path / "out") == ("DoRA", rank)
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["use_dora"] is True
    wanted = embedded(base, strategy, doras, images)
    assert same_as_in_peft(fresh_tower(), tmp_path / "out", wanted, images)
    again = read(tmp_path / "out")
    torch.testing.assert_close(embedded(base, strategy, [(again, 1.0)], images), wanted, rtol=1e-5, atol=2e-5)
    assert all(module.magnitude is not None for module in again.values())


@pytest.mark.usefixtures("untouched")
def test_a_mixture_of_loras_and_doras_is_one_dora(
    base: BaseModel,
    fresh_tower: Callable[[], VisualTower],
    members: list[tuple[Adapter, float]],
    doras: list[tuple[Adapter, float]],
    images: torch.Tensor,
    tmp_path: Path,
) -> None:
    both = [*members, *doras]
    assert export_peft(base, "mixture", both, tmp_path / "out") == ("DoRA", 20)
    assert same_as_in_peft(fresh_tower(), tmp_path / "out", embedded(base, "mixture", both, images), images)


@pytest.mark.parametrize("strategy", ["fusion", "mixture"])
def test_modules_of_a_lora_beside_those_of_a_dora(
    strategy: str,
    base: BaseModel,
    fresh_tower: Callable[[], VisualTower],
    make_adapter: MakeAdapter,
    read: ReadAdapter,
    images: torch.Tensor,
    tmp_path: Path,
) -> None:
    """PEFT's use_dora is for all modules, so those of the LoRA get the magnitude that leaves them as they are."""
    lora = read(make_adapter(1, modules=r".*\.[qv]_proj"))
    dora = read(make_adapter(2, alpha=3, modules=["projection"], use_dora=True))
    members = [(lora, 0.7), (dora, 1.2)]
    assert export_peft(base, strategy, members, tmp_path / "out") == ("DoRA", 4)
    assert same_as_in_peft(fresh_tower(), tmp_path / "out", embedded(base, strategy, members, images), images)


@pytest.mark.parametrize("strategy", ["fusion", "mixture"])
def test_a_lone_dora_at_coefficient_1_is_itself(
    strategy: str, base: BaseModel, doras: list[tuple[Adapter, float]], read: ReadAdapter, tmp_path: Path
) -> None:
    dora = doras[0][0]
    export_peft(base, strategy, [(dora, 1.0)], tmp_path / "out")
    again = read(tmp_path / "out")
    for name, module in dora.items():
        magnitude = again[name].magnitude
        assert magnitude is not None and module.magnitude is not None
        assert torch.equal(again[name].a, module.a) and torch.equal(again[name].b, module.scaling * module.b)
        torch.testing.assert_close(magnitude, module.magnitude, rtol=1e-6, atol=1e-7)


def test_a_mixture_that_no_dora_is(
    base: BaseModel, members: list[tuple[Adapter, float]], doras: list[tuple[Adapter, float]], tmp_path: Path
) -> None:
    """A DoRA that turns an output feature off, and a LoRA that changes what is then zero."""
    dora = dict(doras[0][0])
    magnitude = dora["projection"].magnitude
    assert magnitude is not None
    dora["projection"] = replace(dora["projection"], magnitude=magnitude * (torch.arange(32) != 5))
    with pytest.raises(ForgeError, match=r"no single DoRA does what this model does: .* of projection") as caught:
        export_peft(base, "mixture", [(dora, 1.0), members[0]], tmp_path / "out")
    assert "--format open_clip" in (caught.value.hint or "")
    assert not (tmp_path / "out").exists()
    assert export_peft(base, "mixture", [(dora, 1.0)], tmp_path / "alone") == ("DoRA", 4)


@given(
    seed=st.integers(0, 2**32),
    kinds=st.lists(st.booleans(), min_size=1, max_size=4),
    coefficients=st.lists(st.floats(-1.5, 1.5), min_size=4, max_size=4),
)
def test_the_concatenation_is_exact(seed: int, kinds: list[bool], coefficients: list[float]) -> None:
    """In double precision, against the sum of changes in a plain loop; whichever are DoRA."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weight = random(5, 3)
    members: list[tuple[Adapter, float]] = []
    expected = weight.clone()
    kept = torch.ones(5, dtype=torch.float64)  # how much of the base's weights is left
    for dora, c in zip(kinds, coefficients, strict=False):
        a, b, magnitude = random(2, 3), random(5, 2), random(5)
        members.append(({"x": LowRank(a, b, 1.5, *((magnitude, weight) if dora else (None, None)))}, c))
        changed = weight + 1.5 * b @ a
        for row in range(5):
            factor = magnitude[row] / changed[row].square().sum().sqrt() if dora else 1.0
            expected[row] += c * (factor * changed[row] - weight[row])
            kept[row] += c * (factor - 1.0)
    assume(float(kept.abs().min()) > 1e-3)
    found = concatenated(members)["x"]
    assert found.rank == 2 * len(kinds) and (found.magnitude is not None) == any(kinds)
    torch.testing.assert_close(weight + found.delta(), expected, rtol=1e-8, atol=1e-8)
