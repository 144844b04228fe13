"""What other tools make of an exported model: PEFT and open_clip load it without git forge."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from forge.errors import ForgeError
from forge.model.adapters import Adapter, parameter_count
from forge.model.attention import VisualTower
from forge.model.base import BaseModel, load_base
from forge.model.composing import folded, merged_delta
from forge.model.exporting import export_open_clip, export_peft

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
    assert export_peft(base, strategy, members, folder) == rank
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
    assert export_peft(base, "mixture", members, tmp_path / "out") == 7
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
    export_open_clip(base, merged_delta(strategy, members), folder, final=folder)
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
    export_open_clip(base, {}, tmp_path / "out", final=tmp_path / "out")
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
    unfinished, final = tmp_path / "unfinished", tmp_path / "final"
    export_open_clip(base, {}, unfinished, final=final)
    shutil.rmtree(source)
    unfinished.rename(final)
    tokens = open_clip.get_tokenizer(f"local-dir:{final}")(LABELS)
    assert torch.equal(tokens, base.tokenizer(LABELS))
    assert load_base(str(final)).fingerprint == base.fingerprint
    final.rename(tmp_path / "moved")  # git forge reads it beside the configuration, wherever that is
    assert load_base(str(tmp_path / "moved")).fingerprint == base.fingerprint
