"""The paper's own base, ViT-B-16 of open_clip, from a local checkpoint; its weights are random."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import open_clip
import pytest
import torch
from composed import merged_delta
from safetensors.torch import save_file

from forge.errors import ForgeError
from forge.model.adapters import parameter_count, plain_delta, read_adapter
from forge.model.base import BaseModel, load_base
from forge.model.distillation import DistillSettings, as_images, distil
from forge.model.distillation import default_settings as distill_defaults
from forge.model.scoring import TaskImages, score_tasks
from forge.model.training import TrainedAdapter, TrainSettings, default_settings, train_adapter

pytestmark = pytest.mark.long

LABELS = ("negative colon tumor", "positive colon tumor")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """ViT-B-16 in half precision, 300 MB."""
    path = tmp_path_factory.mktemp("paper") / "vit-b-16.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = open_clip.create_model("ViT-B-16", load_weights=False)
    save_file({name: value.half() for name, value in clip.state_dict().items()}, path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def paper_base(checkpoint: Path) -> BaseModel:
    return load_base(f"ViT-B-16={checkpoint}")


@pytest.fixture(scope="module")
def colon() -> TaskImages:
    pixels = torch.randint(0, 256, (4, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return TaskImages("colon", LABELS, pixels, torch.tensor([0, 1, 0, 1]))


@pytest.fixture(scope="module")
def trained(paper_base: BaseModel, colon: TaskImages) -> TrainedAdapter:
    """One step in the paper's setting."""
    paper = default_settings(paper_base.settings_family)
    one_step = TrainSettings(**{**paper.__dict__, "epochs": 1})
    return train_adapter(paper_base, colon, colon, one_step)


def test_the_base(paper_base: BaseModel, checkpoint: Path) -> None:
    assert paper_base.settings_family == "paper"
    assert paper_base.image_size == (224, 224)
    assert paper_base.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert paper_base.text_embeddings(LABELS).shape == (2, 512)
    assert sum(parameter.numel() for parameter in paper_base.tower.parameters()) == 86_192_640
    with pytest.raises(ForgeError, match="does not fit the architecture"):
        load_base(f"ViT-B-32={checkpoint}")


def test_the_papers_adapter(paper_base: BaseModel, trained: TrainedAdapter) -> None:
    adapter = read_adapter(trained.config, trained.tensors, paper_base.tower, source="colon")
    q_and_v = {f"trunk.transformer.resblocks.{layer}.attn.{part}_proj" for layer in range(12) for part in "qv"}
    assert set(adapter) == q_and_v | {"projection"}
    shapes = {name: (tuple(module.a.shape), tuple(module.b.shape)) for name, module in adapter.items()}
    assert shapes.pop("projection") == ((16, 768), (512, 16))
    assert set(shapes.values()) == {((16, 768), (768, 16))}
    assert parameter_count(adapter) == 24 * (16 * 768 + 768 * 16) + (16 * 768 + 512 * 16) == 610_304
    assert all(module.scaling == 1 for module in adapter.values())
    assert (trained.config["r"], trained.config["lora_alpha"], trained.config["lora_dropout"]) == (16, 16, 0.1)
    assert all(float(module.b.abs().sum()) > 0 for module in adapter.values())  # every layer was trained


def test_a_tiny_distillation_and_the_models_scored_on_it(
    paper_base: BaseModel, colon: TaskImages, trained: TrainedAdapter
) -> None:
    paper = distill_defaults("paper")
    tiny = DistillSettings(**{**paper.__dict__, "steps": 1, "ipc": 1, "judge_steps": 1})
    notes: list[str] = []
    distilled = distil(paper_base, colon, colon, tiny, advance=lambda steps, note: notes.append(note))
    assert [note.split()[0] for note in notes] == ["loss", "judging"]
    assert distilled.images.shape == (2, 3, 224, 224)
    assert distilled.targets.tolist() == [0, 1]
    adapter = read_adapter(trained.config, trained.tensors, paper_base.tower, source="colon")
    small = as_images(paper_base, distilled, colon)
    (alone,) = score_tasks(paper_base, plain_delta(adapter), [small])
    for strategy in ("fusion", "mixture"):
        assert score_tasks(paper_base, merged_delta(strategy, [(adapter, 1.0)]), [small])[
            0
        ].cross_entropy == pytest.approx(alone.cross_entropy, rel=1e-3)
