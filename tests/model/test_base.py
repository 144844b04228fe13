"""Loading and identifying a base: open_clip itself is the oracle for what it computes."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from forge.errors import ForgeError
from forge.model.base import BaseModel, load_base
from forge.model.base_places import portable_name

WEIGHTS = "open_clip_model.safetensors"
CONFIG = "open_clip_config.json"
LABELS = ("benign lung tissues", "lung squamous cell carcinomas")


@pytest.fixture
def folder(base_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny base that a test may change."""
    return Path(shutil.copytree(base_folder, tmp_path / "changed"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would have been downloaded; open_clip's download fails as it does without a network."""
    asked: list[Any] = []

    def download(preset: Any, *args: Any, **kwargs: Any) -> str:
        asked.append(preset)
        raise OSError("Failed to resolve 'huggingface.co'\nand much more")

    monkeypatch.setattr(open_clip, "download_pretrained", download)
    return asked


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)


def change_config(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))


def test_what_is_known_of_a_base(base: BaseModel, base_folder: Path) -> None:
    assert base.reference == str(base_folder)
    assert base.image_size == (32, 32)
    assert base.mean == (0.5, 0.4, 0.3)
    assert base.std == (0.25, 0.2, 0.3)
    assert base.logit_scale == pytest.approx(1 / 0.07, rel=1e-6)
    assert base.settings_family == "small"
    assert base.bpe_path is None
    assert not any(parameter.requires_grad for parameter in [*base.tower.parameters(), *base.clip.parameters()])


def test_text_embeddings_are_open_clips_and_computed_once(
    base_folder: Path, open_clip_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load_base(str(base_folder))
    tokens = open_clip.get_tokenizer(f"local-dir:{base_folder}")(list(LABELS))
    with torch.no_grad():
        expected = F.normalize(open_clip_model.encode_text(tokens), dim=-1)
    calls: list[int] = []
    encode = base.clip.encode_text

    def counted(tokens: torch.Tensor) -> torch.Tensor:
        calls.append(len(tokens))
        embedded: torch.Tensor = encode(tokens)
        return embedded

    monkeypatch.setattr(base.clip, "encode_text", counted)
    found = base.text_embeddings(LABELS)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert base.text_embeddings(LABELS) is found
    assert calls == [2]
    base.text_embeddings(LABELS[::-1])
    assert calls == [2, 2]


def test_normalising_pixels(base: BaseModel) -> None:
    pixels = torch.arange(2 * 3 * 2 * 2, dtype=torch.uint8).reshape(2, 3, 2, 2) * 10
    found = base.normalise(pixels)
    for channel, (mean, std) in enumerate(zip(base.mean, base.std, strict=True)):
        expected = (pixels[:, channel].numpy() / 255 - mean) / std
        np.testing.assert_allclose(found[:, channel].numpy(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(base.normalise(pixels.float() / 255), found)


def test_the_fingerprint_stays_when_only_the_file_changes(base: BaseModel, folder: Path) -> None:
    assert load_base(str(folder)).fingerprint == base.fingerprint
    weights = load_file(folder / WEIGHTS)
    save_file(dict(reversed(weights.items())), folder / WEIGHTS, {"format": "pt", "made by": "someone"})
    assert load_base(str(folder)).fingerprint == base.fingerprint
    assert load_base("anything", override=str(folder), fingerprint=base.fingerprint).reference == "anything"


@pytest.mark.parametrize(
    "name", ["visual.proj", "visual.transformer.resblocks.1.attn.in_proj_weight", "token_embedding.weight"]
)
def test_the_fingerprint_changes_with_one_weight(base: BaseModel, folder: Path, name: str) -> None:
    def nudge(weights: dict[str, torch.Tensor]) -> None:
        weights[name].view(-1)[7] += 1e-3

    change_weights(folder, nudge)
    assert load_base(str(folder)).fingerprint != base.fingerprint
    with pytest.raises(ForgeError, match="not the one this repository was made with") as caught:
        load_base(str(folder), fingerprint=base.fingerprint)
    assert base.fingerprint in caught.value.message
    assert "git config forge.base" in (caught.value.hint or "")


def set_in(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        place = config
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = to

    return change


@pytest.mark.parametrize(
    "change",
    [
        set_in("preprocess_cfg", "mean", to=[0.5, 0.5, 0.5]),
        set_in("preprocess_cfg", "std", to=[0.5, 0.5, 0.5]),
        set_in("model_cfg", "text_cfg", "tokenizer_kwargs", to={"clean": "canonicalize"}),
        set_in("model_cfg", "vision_cfg", "head_width", to=16),
        set_in("model_cfg", "quick_gelu", to=True),
        set_in("preprocess_cfg", "resize_mode", to="squash"),
        set_in("preprocess_cfg", "interpolation", to="bilinear"),
        set_in("preprocess_cfg", "fill_color", to=[255, 255, 255]),
        set_in("model_cfg", "vision_cfg", "image_size", to=34),
        set_in("model_cfg", "vision_cfg", "pool_type", to="avg"),
        set_in("model_cfg", "vision_cfg", "final_ln_after_pool", to=True),
        set_in("model_cfg", "vision_cfg", "norm_kwargs", to={"eps": 1e-3}),
        set_in("model_cfg", "vision_cfg", "act_kwargs", to={"approximate": "tanh"}),
        set_in("model_cfg", "text_cfg", "no_causal_mask", to=True),
        set_in("model_cfg", "text_cfg", "pool_type", to="first"),
    ],
    ids=[
        "mean",
        "std",
        "tokeniser",
        "heads",
        "activation",
        "resizing",
        "interpolation",
        "fill",
        "size",
        "pooling",
        "norm after pooling",
        "epsilon",
        "tanh",
        "mask",
        "text pooling",
    ],
)
def test_the_fingerprint_changes_with_what_the_weights_do_not_show(
    base: BaseModel, folder: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    change_config(folder, change)
    assert load_base(str(folder)).fingerprint != base.fingerprint


def test_what_only_says_the_default_is_no_other_base(base: BaseModel, folder: Path) -> None:
    """So that the fingerprint of whoever says nothing is what it was before resizing was part of it."""
    change_config(folder, set_in("preprocess_cfg", "fill_color", to=[0, 0, 0]))
    change_config(folder, set_in("model_cfg", "vision_cfg", "pool_type", to="tok"))
    change_config(folder, set_in("model_cfg", "text_cfg", "pad_id", to=3))  # nothing of this model looks at it
    assert load_base(str(folder)).fingerprint == base.fingerprint
    assert load_base("embedded").fingerprint.startswith("sha256:77bc4bdee4b5548d")


def test_a_fingerprint_of_before_resizing_was_part_of_it(
    base: BaseModel, folder: Path, tiny_architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken where it can mean this base: a folder's name does not tell, a tag's and a plain file's do."""
    change_config(folder, set_in("preprocess_cfg", "resize_mode", to="squash"))
    squashing = load_base(str(folder))
    older = base.fingerprint  # weights, tokeniser, mean and deviation are the same
    taken = load_base("local:clip", fingerprint=older, override=str(folder))
    assert taken.fingerprint == older != squashing.fingerprint
    assert "resized to 32x32 (squash, bicubic): make sure" in (taken.remark or "")
    assert taken.goes_by(f"git-forge:{older}")
    exact = load_base("local:clip", fingerprint=squashing.fingerprint, override=str(folder))
    assert (exact.fingerprint, exact.remark) == (squashing.fingerprint, None)
    presets = {"shortest": {"resize_mode": "shortest"}, "squash": {"resize_mode": "squash"}}
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: presets.get(tag, {}))
    for reference in ("embedded", f"{tiny_architecture}=file.safetensors", f"{tiny_architecture}/shortest"):
        with pytest.raises(ForgeError, match=r"not the one .*\n.*\n.*squash, bicubic"):
            load_base(reference, fingerprint=older, override=str(folder))
    tagged = load_base(f"{tiny_architecture}/squash", fingerprint=older, override=str(folder))
    assert (tagged.fingerprint, tagged.remark) == (older, None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none(folder: Path, value: float) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        weights["visual.conv1.weight"].view(-1)[3] = value

    change_weights(folder, spoil)
    with pytest.raises(ForgeError, match=rf"{WEIGHTS} holds numbers that are none .* in visual\.conv1\.weight"):
        load_base(str(folder))


@pytest.mark.parametrize("preset", [{"std": (0.5, 0.0, 0.5)}, {"std": (0.5, -1, 0.5)}, {"mean": (0, float("nan"), 0)}])
def test_pixels_that_cannot_be_normalised(
    tiny_architecture: str, folder: Path, monkeypatch: pytest.MonkeyPatch, preset: dict[str, Any]
) -> None:
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: preset)
    with pytest.raises(ForgeError, match=f"gives {next(iter(preset))} .* by which none can be normalised"):
        load_base(f"{tiny_architecture}/tag={folder / WEIGHTS}")


def test_what_is_said_of_a_base(base: BaseModel) -> None:
    assert base.description == ("GELU, mean 0.5 0.4 0.3, std 0.25 0.2 0.3, resized to 32x32 (shortest, bicubic)")


def test_the_fingerprint_changes_with_the_length_of_a_label(
    tiny_config: dict[str, Any], make_base: Callable[..., Path], base: BaseModel, tmp_path: Path
) -> None:
    config = copy.deepcopy(tiny_config)
    config["model_cfg"]["text_cfg"]["context_length"] = 12
    short = load_base(str(make_base(tmp_path / "short", config)))
    assert short.tokenizer(["a"]).shape == (1, 12)
    assert short.fingerprint != base.fingerprint


def test_half_precision_weights_are_loaded(base: BaseModel, folder: Path) -> None:
    def halve(weights: dict[str, torch.Tensor]) -> None:
        for name in weights:
            weights[name] = weights[name].half()

    change_weights(folder, halve)
    half = load_base(str(folder))
    assert half.tower.projection.weight.dtype == torch.float32
    torch.testing.assert_close(half.tower.projection.weight, base.tower.projection.weight, rtol=1e-3, atol=1e-4)


def test_a_bpe_file_beside_the_configuration_is_used(folder: Path, tmp_path: Path) -> None:
    from open_clip.tokenizer import default_bpe

    shutil.copyfile(default_bpe(), folder / "words.txt.gz")
    change_config(folder, set_in("model_cfg", "text_cfg", "tokenizer_kwargs", to={"bpe_path": "words.txt.gz"}))
    base = load_base(str(folder))
    assert base.bpe_path == (folder / "words.txt.gz").resolve()
    (folder / "words.txt.gz").unlink()
    with pytest.raises(ForgeError, match=r"bpe_path names 'words\.txt\.gz', which is no file in that folder"):
        load_base(str(folder))


@pytest.fixture
def tiny_architecture(monkeypatch: pytest.MonkeyPatch, tiny_config: dict[str, Any]) -> str:
    """The tiny base's architecture under a name of open_clip's register."""
    from open_clip import factory

    monkeypatch.setitem(factory._MODEL_CONFIGS, "Tiny-ViT", tiny_config["model_cfg"])
    return "Tiny-ViT"


def test_a_name_and_a_file(tiny_architecture: str, folder: Path, base: BaseModel, images: torch.Tensor) -> None:
    loaded = load_base(f"{tiny_architecture}={folder / WEIGHTS}")
    assert loaded.fingerprint != base.fingerprint  # the name brings CLIP's own mean and deviation
    with torch.no_grad():
        assert torch.equal(loaded.tower(images), base.tower(images))


def test_a_name_and_a_tag(
    tiny_architecture: str, folder: Path, monkeypatch: pytest.MonkeyPatch, base: BaseModel, images: torch.Tensor
) -> None:
    preset = {"mean": base.mean, "std": base.std, "interpolation": "bilinear", "quick_gelu": True}
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: preset if tag == "tag" else {})
    monkeypatch.setattr(open_clip, "download_pretrained", lambda preset: str(folder / WEIGHTS))
    tagged = load_base(f"{tiny_architecture}/tag")
    change_config(folder, set_in("model_cfg", "quick_gelu", to=True))
    assert load_base(str(folder)).fingerprint != tagged.fingerprint  # it says bicubic
    change_config(folder, set_in("preprocess_cfg", "interpolation", to="bilinear"))
    same = load_base(str(folder))
    assert tagged.fingerprint == same.fingerprint  # a folder that says what the tag says is the same base
    file = folder / WEIGHTS
    assert load_base(f"{tiny_architecture}/tag={file}").fingerprint == tagged.fingerprint
    with pytest.raises(ForgeError, match=r"found .*: GELU, mean") as caught:
        load_base(f"{tiny_architecture}/tag", fingerprint=tagged.fingerprint, override=f"{tiny_architecture}={file}")
    assert f"git config forge.base {tiny_architecture}/tag={file}" in (caught.value.hint or "")
    with pytest.raises(ForgeError, match="no pretrained tag 'other'"):
        load_base(f"{tiny_architecture}/other={file}")
    assert tagged.model_config["quick_gelu"] is True
    assert tagged.preprocess["interpolation"] == "bilinear"
    with torch.no_grad():
        expected = open_clip.create_model(f"local-dir:{folder}").eval().encode_image(images)
        torch.testing.assert_close(tagged.tower(images), expected, rtol=1e-6, atol=1e-6)
        assert not torch.allclose(tagged.tower(images), base.tower(images))
    with pytest.raises(ForgeError, match="no pretrained tag 'other'"):
        load_base(f"{tiny_architecture}/other")
    (folder / "weights.pt").write_bytes(b"")
    monkeypatch.setattr(open_clip, "download_pretrained", lambda preset: str(folder / "weights.pt"))
    with pytest.raises(ForgeError, match="not safetensors"):
        load_base(f"{tiny_architecture}/tag")


def test_without_a_network(no_network: list[Any]) -> None:
    with pytest.raises(ForgeError) as caught:
        load_base("ViT-B-16/openai")
    assert caught.value.message == (
        "the weights of ViT-B-16/openai could not be fetched: Failed to resolve 'huggingface.co'"
    )
    assert "ViT-B-16/openai=FILE.safetensors" in (caught.value.hint or "")
    assert len(no_network) == 1
    with pytest.raises(ForgeError, match="no pretrained tag 'nobody'") as unknown:
        load_base("ViT-B-16/nobody")
    assert "openai" in (unknown.value.hint or "")
    assert len(no_network) == 1


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("nothing", "no base called 'nothing'"),
        ("/no/such/folder", "no base called"),
        ("./no/such/folder", "no base called"),
        ("ViT-Z-99/openai", "no architecture called 'ViT-Z-99'"),
        ("hf-hub:someone", "no base called 'hf-hub:someone'"),
        ("hf-hub:../clip", "no architecture called 'hf-hub:..'"),
        ("hf-hub:someone/clip=weights.safetensors", "no architecture called 'hf-hub:someone'"),
        ("local-dir:/tmp/clip", "no architecture called 'local-dir:/tmp'"),
        ("ViT-Z-99=weights.safetensors", "no architecture called 'ViT-Z-99'"),
        ("ViT-B-16=/no/such/file.safetensors", "weights are missing"),
        ("weights.safetensors", "does not say which architecture"),
        ("weights.pt", "does not say which architecture"),
        ("", "cannot be read as an open_clip configuration"),
    ],
)
def test_references_that_lead_nowhere(
    no_network: list[Any], reference: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ForgeError, match=reason):
        load_base(reference)
    assert no_network == []


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[tuple[str, str, str | None]]:
    """What is asked of the Hub, where someone/clip has what is in the folder; a revision is a folder there as well."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    asked: list[tuple[str, str, str | None]] = []

    def download(repo_id: str, filename: str, revision: str | None = None, **more: Any) -> str:
        asked.append((repo_id, filename, revision))
        if repo_id != "someone/clip":
            raise OSError("Failed to resolve 'huggingface.co'\nand much more")
        if not (folder / filename).exists():
            raise EntryNotFoundError(f"404: {filename}")
        return str(folder / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


def test_a_base_of_the_hub(hub: list[tuple[str, str, str | None]], folder: Path, base: BaseModel) -> None:
    loaded = load_base("hf-hub:someone/clip")
    assert loaded.fingerprint == base.fingerprint
    # All of one revision: the one that the configuration was found in.
    assert hub == [("someone/clip", CONFIG, None), ("someone/clip", WEIGHTS, folder.name)]
    assert portable_name("hf-hub:someone/clip") == "hf-hub:someone/clip"
    load_base("hf-hub:someone/clip@v1")
    assert hub[2] == ("someone/clip", CONFIG, "v1")
    change_config(folder, set_in("model_cfg", "text_cfg", "hf_tokenizer_name", to="someone/clip"))
    with pytest.raises(ForgeError, match=r"tokenizer\.json is missing"):
        load_base("hf-hub:someone/clip")
    assert ("someone/clip", "tokenizer.json", folder.name) in hub


def test_a_base_of_the_hub_that_is_not_there(hub: list[tuple[str, str, str | None]], folder: Path) -> None:
    with pytest.raises(ForgeError) as caught:
        load_base("hf-hub:nobody/clip")
    assert caught.value.message == "hf-hub:nobody/clip could not be fetched: Failed to resolve 'huggingface.co'"
    assert "hf download nobody/clip --local-dir FOLDER" in (caught.value.hint or "")
    (folder / WEIGHTS).rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(ForgeError, match=f"hf-hub:someone/clip has no {WEIGHTS}") as pickled:
        load_base("hf-hub:someone/clip")
    assert "safetensors.torch.save_file" in (pickled.value.hint or "")
    assert not any(name.endswith(".bin") for _, name, _ in hub)


class Evil:
    """A pickle that leaves a file behind when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_is_refused_and_not_opened(tiny_architecture: str, folder: Path, tmp_path: Path) -> None:
    trace = tmp_path / "opened"
    evil = pickle.dumps(Evil(trace))
    for name in ("weights.pt", "weights.bin", "weights.npz"):
        (tmp_path / name).write_bytes(evil)
        with pytest.raises(ForgeError, match="not safetensors"):
            load_base(f"{tiny_architecture}={tmp_path / name}")
    (folder / WEIGHTS).write_bytes(evil)
    with pytest.raises(ForgeError, match="cannot be read as safetensors"):
        load_base(str(folder))
    (folder / WEIGHTS).unlink()
    (folder / "open_clip_pytorch_model.bin").write_bytes(evil)
    with pytest.raises(ForgeError, match="weights are missing"):
        load_base(str(folder))
    assert not trace.exists()


@pytest.mark.parametrize("kept", [0, 4, 8, 100, 1_000, -1])
def test_broken_weights(folder: Path, kept: int) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:kept])
    with pytest.raises(ForgeError, match=f"{WEIGHTS} cannot be read as safetensors"):
        load_base(str(folder))


def test_weights_of_another_architecture(folder: Path, tiny_architecture: str) -> None:
    with pytest.raises(ForgeError, match="does not fit the architecture of ViT-B-32-256"):
        load_base(f"ViT-B-32-256={folder / WEIGHTS}")

    def forget(weights: dict[str, torch.Tensor]) -> None:
        del weights["logit_scale"]

    change_weights(folder, forget)
    with pytest.raises(ForgeError, match=r"does not fit the architecture.*logit_scale"):
        load_base(str(folder))
    save_file({}, folder / WEIGHTS)
    with pytest.raises(ForgeError, match="does not fit the architecture"):
        load_base(str(folder))


@pytest.mark.parametrize(
    "content",
    [None, "", "{", "[]", "{}", '{"model_cfg": 3}', '{"model_cfg": {}}', '{"model_cfg": {"text_cfg": 3}}', "\xff"],
)
def test_broken_configurations(folder: Path, content: str | None) -> None:
    (folder / CONFIG).unlink()
    if content is not None:
        (folder / CONFIG).write_bytes(content.encode("latin-1"))
    with pytest.raises(ForgeError, match="cannot be read as an open_clip configuration"):
        load_base(str(folder))


@pytest.mark.parametrize(
    "change",
    [
        set_in("model_cfg", "embed_dim", to="wide"),
        set_in("model_cfg", "vision_cfg", to={}),
        set_in("model_cfg", "vision_cfg", "no such setting", to=1),
        set_in("model_cfg", "vision_cfg", "patch_size", to=0),
        set_in("model_cfg", "vision_cfg", "layers", to=[1, 1, 1, 1]),
        set_in("model_cfg", "text_cfg", "tokenizer_kwargs", to=[]),
        set_in("preprocess_cfg", "mean", to="none"),
        set_in("preprocess_cfg", to=7),
    ],
)
def test_configurations_that_open_clip_cannot_build(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    change_config(folder, change)
    with pytest.raises(ForgeError):
        load_base(str(folder))


# What open_clip would hand on to transformers, to timm or to the Hub: it can run code that the folder brings, and
# download.
HANDED_ON = {
    "code of the folder": set_in(
        "model_cfg", "text_cfg", "tokenizer_kwargs", to={"trust_remote_code": True, "bpe_path": "vocabulary.bpe"}
    ),
    "a tokeniser of transformers": set_in("model_cfg", "text_cfg", "hf_tokenizer_name", to="."),
    "a text tower of transformers": set_in("model_cfg", "text_cfg", "hf_model_name", to="."),
    "a visual tower from the Hub": set_in("model_cfg", "vision_cfg", "timm_model_name", to="hf-hub:someone/vit_tower"),
    "another model class": set_in("model_cfg", "multimodal_cfg", to={}),
    "custom blocks": set_in("model_cfg", "vision_cfg", "block_type", to="custom"),
    "a key of the document": set_in("auto_map", to={"AutoModel": "modeling.Evil"}),
}


@pytest.mark.parametrize("what", HANDED_ON)
def test_a_folder_sets_nothing_but_a_plain_clip(folder: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that a folder brings stays where it is, and the key is named."""
    monkeypatch.chdir(folder)
    for name in ("tokenization_evil", "modeling", "conftest", "sitecustomize"):
        (folder / f"{name}.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["tokenization_evil.T", None]}, "tokenizer_class": "T"})
    )
    change_config(folder, HANDED_ON[what])
    key = {
        "code of the folder": "trust_remote_code",
        "a tokeniser of transformers": "tokenizer.json is missing",
        "a text tower of transformers": "hf_model_name",
        "a visual tower from the Hub": "timm_model_name",
        "another model class": "multimodal_cfg",
        "custom blocks": "block_type",
        "a key of the document": "auto_map",
    }[what]
    with pytest.raises(ForgeError, match=key):
        load_base(str(folder))
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (set_in("model_cfg", "vision_cfg", "layers", to=10**9), "layers"),
        (set_in("model_cfg", "vision_cfg", "width", to=10**9), "width"),
        (set_in("model_cfg", "text_cfg", "vocab_size", to=10**12), "vocab_size"),
        (set_in("model_cfg", "text_cfg", "context_length", to=10**9), "context_length"),
        (set_in("model_cfg", "text_cfg", "tokenizer_kwargs", to={"bpe_path": 7}), "bpe_path"),
        (set_in("preprocess_cfg", "std", to=[0.0, 0.25, 0.25]), "std"),
        (set_in("model_cfg", "vision_cfg", to={"image_size": 32, "patch_size": 8, "width": 16384, "layers": 64}),
         "numbers, where"),
    ],
)  # fmt: skip
def test_sizes_are_bounded_before_anything_is_built(
    folder: Path, change: Callable[[dict[str, Any]], None], word: str
) -> None:
    change_config(folder, change)
    with pytest.raises(ForgeError, match=word):
        load_base(str(folder))


def test_a_bpe_file_comes_from_the_folder_and_stays_small(folder: Path, tmp_path: Path) -> None:
    import gzip

    outside = tmp_path / "outside.bpe"
    outside.write_bytes(gzip.compress(b"x"))
    for path in (str(outside), "../outside.bpe"):
        change_config(folder, set_in("model_cfg", "text_cfg", "tokenizer_kwargs", to={"bpe_path": path}))
        with pytest.raises(ForgeError, match=r"bpe_path names 'outside\.bpe', which is no file in that folder"):
            load_base(str(folder))
    (folder / "outside.bpe").write_bytes(gzip.compress(b"\0" * (17 * 2**20)))
    with pytest.raises(ForgeError, match="larger than 16 MiB once unpacked"):
        load_base(str(folder))


def test_names_that_are_the_same_on_every_machine(folder: Path) -> None:
    assert portable_name("embedded") == "embedded"
    assert portable_name("ViT-B-16/openai") == "ViT-B-16/openai"
    assert portable_name(f"ViT-B-16/openai={folder / WEIGHTS}") == f"ViT-B-16/openai={WEIGHTS}"
    assert portable_name(f"ViT-B-16={folder / WEIGHTS}") == f"ViT-B-16={WEIGHTS}"
    assert portable_name(str(folder)) == "local:changed"
