"""The embedded base as shipped: its files, its tokenizer, and what open_clip makes of them."""

from __future__ import annotations

import gzip
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F

from examples.generated.captioned import GLYPH_MIX, MIX, captioned_images
from examples.generated.pretrain import (
    CONFIG_FILE,
    EMBEDDED,
    STAGES,
    WEIGHTS_FILE,
    Stage,
    build,
    contrastive_loss,
    encode_captions,
    rate_at,
    train_stage,
)
from examples.generated.tasks import TASKS, task_labels
from examples.generated.vocabulary import LABEL_WORDS, merges_of, vocabulary_size, write_vocabulary

CONFIG: dict[str, Any] = json.loads((EMBEDDED / CONFIG_FILE).read_text())
BPE_FILE = EMBEDDED / CONFIG["model_cfg"]["text_cfg"]["tokenizer_kwargs"]["bpe_path"]


@pytest.fixture(scope="module")
def shipped() -> tuple[Any, Any]:
    """open_clip's own model and tokenizer of the folder, the BPE file's path made absolute."""
    import open_clip

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = f"local-dir:{EMBEDDED}"
        model = open_clip.create_model(name)
        tokenizer = open_clip.get_tokenizer(name, bpe_path=str(BPE_FILE))
    return model.eval(), tokenizer


def test_files_are_small_and_carry_no_record_of_a_machine() -> None:
    weights = EMBEDDED / WEIGHTS_FILE
    assert weights.stat().st_size < 3_000_000
    assert BPE_FILE.stat().st_size < 4_000
    assert {path.name for path in EMBEDDED.iterdir() if path.suffix != ".pyc"} == {
        CONFIG_FILE, WEIGHTS_FILE, BPE_FILE.name, "MODEL_CARD.md",
    }  # fmt: skip
    with safe_open(weights, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert {str(file.get_tensor(key).dtype) for key in file.keys()} == {"torch.float16"}  # noqa: SIM118
    assert "/" not in CONFIG["model_cfg"]["text_cfg"]["tokenizer_kwargs"]["bpe_path"]


def test_open_clip_loads_the_folder_and_embeds(shipped: tuple[Any, Any]) -> None:
    model, tokenizer = shipped
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(1.42e6, rel=0.02)
    with torch.no_grad():
        seen = model.encode_image(torch.zeros(2, 3, 32, 32))
        told = model.encode_text(tokenizer(["a red circle", "lung adenocarcinomas"]))
    assert seen.shape == told.shape == (2, 128)
    assert torch.isfinite(seen).all() and torch.isfinite(told).all()
    assert 1 < float(model.logit_scale.detach().exp()) <= 100.1


def test_the_base_sees_colour_and_shape(shipped: tuple[Any, Any]) -> None:
    """Not an exact figure: new images find their own caption far more often than by chance."""
    model, tokenizer = shipped
    data = captioned_images(123, 200)
    distinct = sorted(set(data.captions))
    own = torch.tensor([distinct.index(caption) for caption in data.captions])
    pixels = torch.from_numpy(data.images).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(CONFIG["preprocess_cfg"][key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        seen = F.normalize(model.encode_image((pixels - mean) / std), dim=-1)
        told = F.normalize(model.encode_text(tokenizer(distinct)), dim=-1)
    assert float(((seen @ told.T).argmax(1) == own).float().mean()) > 0.4


def test_tokens_of_captions_and_labels_are_few_and_whole(shipped: tuple[Any, Any]) -> None:
    _, tokenizer = shipped
    assert tokenizer.vocab_size == CONFIG["model_cfg"]["text_cfg"]["vocab_size"]
    texts = [*captioned_images(55, 1500).captions, *LABEL_WORDS]
    texts += [label for name in TASKS for label in task_labels(name)]
    full = full_tokenizer()
    for word in {word for text in texts for word in text.split()}:
        assert pieces(tokenizer, word) == pieces(full, word)
    longest = max(len(tokenizer.encode(text)) for text in texts)
    assert longest + 2 <= CONFIG["model_cfg"]["text_cfg"]["context_length"]
    assert int(tokenizer(["a red circle"]).max()) == tokenizer.eot_token_id == tokenizer.vocab_size - 1


def full_tokenizer() -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def pieces(tokenizer: Any, word: str) -> list[str]:
    return [tokenizer.decoder[token] for token in tokenizer.encode(word)]


@pytest.mark.parametrize("text", ["Zweifelhafte Läsion, Grad II!", "日本語", "x-ray 12µm", "🙂"])
def test_any_other_text_goes_through_the_tokenizer_and_back(shipped: tuple[Any, Any], text: str) -> None:
    _, tokenizer = shipped
    back = tokenizer.decode(tokenizer.encode(text))
    assert back.replace(" ", "") == text.lower().replace(" ", "")


@pytest.mark.long
def test_the_bpe_file_can_be_made_again(tmp_path: Path) -> None:
    size = write_vocabulary(tmp_path / "again.bpe")
    assert size == CONFIG["model_cfg"]["text_cfg"]["vocab_size"]
    text = gzip.decompress(BPE_FILE.read_bytes()).decode()
    assert gzip.decompress((tmp_path / "again.bpe").read_bytes()).decode() == text
    assert not text.endswith("\n"), "open_clip would read an empty merge"
    assert vocabulary_size(len(text.split("\n")) - 1) == size


def test_merges_of_a_word() -> None:
    ranks = {("a", "b"): 0, ("ab", "c</w>"): 1, ("b", "c</w>"): 2}
    assert merges_of("abc", ranks) == {("a", "b"), ("ab", "c</w>")}
    assert merges_of("bc", ranks) == {("b", "c</w>")}
    assert merges_of("a", ranks) == set()


def test_short_captions_embed_as_in_open_clip() -> None:
    torch.manual_seed(0)
    model, tokenizer = build(CONFIG, EMBEDDED)
    tokens = tokenizer(["a red circle", "few small uniform nuclei and no glands", "7"])
    with torch.no_grad():
        assert torch.allclose(encode_captions(model, tokens), model.encode_text(tokens), atol=1e-5)


def test_loss_with_distinct_captions_is_clips() -> None:
    torch.manual_seed(0)
    images, captions = F.normalize(torch.randn(6, 8), dim=-1), F.normalize(torch.randn(6, 8), dim=-1)
    logits = 10 * images @ captions.T
    expected = (F.cross_entropy(logits, torch.arange(6)) + F.cross_entropy(logits.T, torch.arange(6))) / 2
    assert float(contrastive_loss(images, captions, torch.arange(6), torch.tensor(10.0))) == pytest.approx(
        float(expected), rel=1e-5
    )


def test_equal_captions_are_positives_of_each_other() -> None:
    images = torch.eye(3)
    captions = torch.stack([F.normalize(torch.tensor([1.0, 1.0, 0.0]), dim=0), torch.tensor([0.0, 0.0, 1.0])])
    shared = contrastive_loss(images, captions, torch.tensor([0, 0, 1]), torch.tensor(50.0))
    # Images choose without error; the shared caption cannot do better than even odds over its two images.
    assert float(shared) == pytest.approx(np.log(2) / 4, abs=1e-4)


def test_rate_warms_up_and_ends_at_nothing() -> None:
    stage = Stage(1000, 1000, 100, 16, 2e-3, 0.0, MIX, 40)
    rates = [rate_at(step, stage) for step in range(1000)]
    assert rates[0] < rates[50] < rates[99] == max(rates) == 2e-3
    assert rates[-1] < 1e-6
    assert all(stage.steps <= stage.horizon and stage.batch <= stage.images for stage in STAGES)


def test_pretraining_is_reproducible_and_hands_over_by_file(tmp_path: Path) -> None:
    first = Stage(2, 4, 1, 16, 1e-3, 0.5, MIX, 40)
    second = Stage(2, 2, 1, 8, 1e-3, 0.0, GLYPH_MIX, 20)
    for name in ("one", "two"):
        train_stage(CONFIG, EMBEDDED, first, 3, tmp_path / f"{name}.first")
        train_stage(CONFIG, EMBEDDED, second, 4, tmp_path / name, start=tmp_path / f"{name}.first")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").read_bytes() != (tmp_path / "one.first").read_bytes()
    with safe_open(tmp_path / "one", framework="pt") as file:
        assert set(file.keys()) == set(build(CONFIG, EMBEDDED)[0].state_dict())
