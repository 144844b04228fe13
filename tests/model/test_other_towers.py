"""Base folders with timm's towers, a BERT and tokenizer.json; open_clip, timm and transformers are the oracle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from forge.errors import ForgeError
from forge.model.base import BaseModel, load_base
from forge.model.exporting import export_open_clip
from forge.model.scoring import TaskImages
from forge.model.training import TrainSettings, train_adapter

LABELS = ("benign lung tissues", "lung squamous cell carcinomas", "naïve café größe")
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}


def write_tokenizer(folder: Path, pad: str, bert: bool) -> None:
    """A small tokenizer.json: BERT's pieces of words, or whole words with an end as T5 has it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    if bert:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    else:
        tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([*LABELS, "the quick brown fox"], trainer)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]" if bert else "$A [SEP]", special_tokens=ends if bert else ends[1:]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": pad, "sep_token": "[SEP]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))


VISION = {
    "BiomedCLIP": {"timm_model_name": "vit_base_patch16_224", "timm_pool": "", "timm_proj": "linear"},
    "SigLIP": {"timm_model_name": "vit_base_patch16_siglip_224", "timm_pool": "map", "timm_proj": "none"},
}
TEXT = {
    "BiomedCLIP": {
        "hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
        "hf_tokenizer_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 12,
    },
    "SigLIP": {
        "context_length": 12,
        "vocab_size": 120,
        "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": 48,
        "heads": 2,
        "layers": 1,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
    },
}


@pytest.fixture(scope="module", autouse=True)
def small_towers() -> Any:
    """timm's towers by their own names, but small."""
    create = timm.create_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", lambda name, **given: create(name, **given, **SMALL))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small_towers: Any) -> dict[str, tuple[Path, Any]]:
    """Of each kind a folder as on the Hub, and the model of open_clip's that it was saved from."""
    from open_clip.hf_model import HFTextEncoder
    from transformers import BertConfig

    found = {}
    for kind in VISION:
        folder = tmp_path_factory.mktemp(kind)
        vision = {"image_size": 32, "timm_model_pretrained": False, **VISION[kind]}
        config: dict[str, Any] = {"embed_dim": 48, "vision_cfg": vision, "text_cfg": TEXT[kind]}
        if kind == "SigLIP":
            config |= {"init_logit_bias": -10, "custom_text": True}
        write_tokenizer(folder, "[PAD]" if kind == "BiomedCLIP" else "[SEP]", kind == "BiomedCLIP")
        pixels = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
        (folder / CONFIG).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": pixels}))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            text = {key: value for key, value in TEXT[kind].items() if not key.startswith(("hf_", "tokenizer"))}
            clip = open_clip.CustomTextCLIP(48, vision, text, init_logit_bias=config.get("init_logit_bias"))
            if kind == "BiomedCLIP":
                bert = BertConfig(vocab_size=120, hidden_size=128, num_hidden_layers=2, num_attention_heads=2,
                                  intermediate_size=96, max_position_embeddings=32)  # fmt: skip
                clip.text = HFTextEncoder("", 48, bert, "cls_last_hidden_state_pooler", "mlp", False)
                clip.text.transformer.pooler = None
            for parameter in clip.parameters():
                if parameter.ndim:
                    torch.nn.init.normal_(parameter, std=0.1)
        save_file({name: value.contiguous() for name, value in clip.state_dict().items()}, folder / WEIGHTS)
        found[kind] = (folder, clip.eval())
    return found


@pytest.fixture(scope="module")
def bases(made: dict[str, tuple[Path, Any]]) -> dict[str, BaseModel]:
    return {kind: load_base(str(folder)) for kind, (folder, _) in made.items()}


@pytest.mark.parametrize("kind", VISION)
def test_it_is_what_open_clip_makes_of_it(
    made: dict[str, tuple[Path, Any]], bases: dict[str, BaseModel], kind: str, images: torch.Tensor
) -> None:
    folder, clip = made[kind]
    base = bases[kind]
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    long = " ".join(["lung tissues"] * 30)
    texts = [*LABELS, long, "Benign   Tissues, grade II/III (40x)", ""]
    assert torch.equal(base.tokenizer(texts), tokenizer(texts))
    with torch.no_grad():
        torch.testing.assert_close(base.tower(images), clip.encode_image(images), rtol=1e-5, atol=1e-5)
        expected = F.normalize(clip.encode_text(tokenizer(list(LABELS))), dim=-1)
    torch.testing.assert_close(base.text_embeddings(LABELS), expected, rtol=1e-5, atol=1e-5)
    assert float((expected[0] - expected[1]).abs().max()) > 1e-3
    assert base.image_size == (32, 32)
    assert base.settings_family == "paper"


@pytest.mark.parametrize("kind", VISION)
def test_it_is_trained_exported_and_found_again(
    bases: dict[str, BaseModel], bright_or_dark: Callable[..., TaskImages], tmp_path: Path, kind: str
) -> None:
    base = bases[kind]
    before = {name: value.clone() for name, value in base.tower.state_dict().items()}
    images = bright_or_dark(16)
    settings = TrainSettings("adamw", 1e-2, "cosine", 0.01, epochs=1, batch=16, rank=2)
    trained = train_adapter(base, images, images, settings)
    assert len(trained.tensors) == 2 * (2 * 2 + 1)  # A and B of W_q and W_v in two layers, and of the last map
    assert all(torch.equal(value, before[name]) for name, value in base.tower.state_dict().items())
    export_open_clip(base, {}, tmp_path / "out")
    assert load_base(str(tmp_path / "out")).fingerprint == base.fingerprint
    texts = list(LABELS)
    assert torch.equal(open_clip.get_tokenizer(f"local-dir:{tmp_path / 'out'}")(texts), base.tokenizer(texts))


@pytest.fixture
def folder(made: dict[str, tuple[Path, Any]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made["BiomedCLIP"][0], tmp_path / "changed"))


def change(folder: Path, *path: str, to: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    place = config["model_cfg"]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = to
    (folder / CONFIG).write_text(json.dumps(config))


def test_the_fingerprint_covers_what_weights_do_not_show(folder: Path, bases: dict[str, BaseModel]) -> None:
    change(folder, "text_cfg", "hf_pooler_type", to="mean_pooler")
    assert load_base(str(folder)).fingerprint != bases["BiomedCLIP"].fingerprint
    change(folder, "text_cfg", "hf_pooler_type", to="cls_last_hidden_state_pooler")
    assert load_base(str(folder)).fingerprint == bases["BiomedCLIP"].fingerprint
    change(folder, "text_cfg", "context_length", to=10)
    assert load_base(str(folder)).fingerprint != bases["BiomedCLIP"].fingerprint


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("vision_cfg", "timm_model_name"), "resnet18"),
        (("vision_cfg", "timm_model_name"), "hf-hub:someone/vit"),
        (("vision_cfg", "timm_model_name"), "local-dir:."),
        (("vision_cfg", "timm_model_name"), "vit_of_nobody"),
        (("text_cfg", "hf_model_name"), "."),
        (("text_cfg", "hf_model_name"), "someone/bert"),
        (("text_cfg", "hf_model_name"), "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract/../.."),
        (("text_cfg", "tokenizer_kwargs"), {"trust_remote_code": True}),
        (("text_cfg", "tokenizer_mode"), "clips"),
    ],
)  # fmt: skip
def test_other_programs_parts_are_those_that_are_known(folder: Path, path: tuple[str, ...], value: Any) -> None:
    change(folder, *path, to=value)
    with pytest.raises(
        ForgeError, match=r"vit_of_nobody|timm_model_name|hf_model_name|trust_remote_code|tokenizer_mode"
    ):
        load_base(str(folder))


def test_nothing_of_a_folder_is_run_or_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for name in ("tokenization_evil", "modeling"):
        (folder / f"{name}.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    told = json.loads((folder / "tokenizer_config.json").read_text())
    told |= {"auto_map": {"AutoTokenizer": ["tokenization_evil.T", None]}, "tokenizer_class": "T"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling.Evil"}, "model_type": "evil"}))
    change(folder, "vision_cfg", "timm_model_pretrained", to=True)
    change(folder, "text_cfg", "hf_model_pretrained", to=True)

    def asked(*arguments: Any, **keywords: Any) -> None:
        raise AssertionError("the network")

    monkeypatch.setattr("socket.socket.connect", asked)
    load_base(str(folder))
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"model": 3}', b"\xff"])
def test_a_tokeniser_that_is_none(folder: Path, content: bytes | None) -> None:
    (folder / "tokenizer.json").unlink()
    if content is not None:
        (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(ForgeError, match=r"tokenizer\.json (is missing|cannot be read as a tokeniser)"):
        load_base(str(folder))


def test_a_text_tower_that_is_none(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file({name: value for name, value in weights.items() if "word_embeddings" not in name}, folder / WEIGHTS)
    with pytest.raises(ForgeError, match=r"holds no BERT as its text tower: .*word_embeddings.* is missing"):
        load_base(str(folder))
