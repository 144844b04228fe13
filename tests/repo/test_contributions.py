"""The light view of a contribution: in a revision, the index and the work tree, whole or broken."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sample_models import BASE, LABELS, SampleModel, adapter, adapter_config, distilled

from forge.errors import ForgeError
from forge.formats import adapter as adapter_format
from forge.formats import distilled as distilled_format
from forge.formats import safetensors as safetensors_format
from forge.git.places import INDEX, WORK_TREE, Place
from forge.git.running import Repository
from forge.recipe import card
from forge.recipe.item import Base
from forge.recipe.layout import ITEM_FILE, contribution_files, path_of
from forge.recipe.settings import LimitSettings
from forge.repo import items
from forge.repo.contributions import (
    check_contribution,
    check_contributions,
    disagreements,
    find_all,
    find_files,
    pointers,
)

PLACES = [WORK_TREE, INDEX, "HEAD", "main"]


def names_in(repo: Repository, place: Place) -> tuple[str, ...]:
    """The names of all contributions in a place; raises where one of them cannot be read."""
    found, unreadable = find_all(repo, place)
    for error in unreadable.values():
        raise error
    return tuple(found)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SampleModel:
    """Two contributions, the second with coefficient .25, everything committed."""
    model = SampleModel(tmp_path_factory.mktemp("original"))
    model.add_contribution("lung", {"lung": 0.5})
    model.add_contribution("breast", {"lung": 0.5, "breast": 0.25}, version=2)
    return model


@pytest.fixture
def model(original: SampleModel, tmp_path: Path) -> SampleModel:
    """A copy of `original` for one test."""
    return original.copy(tmp_path / "model")


@pytest.mark.parametrize("place", PLACES)
def test_view(model: SampleModel, place: str | None) -> None:
    assert names_in(model.repo, place) == ("breast", "lung")
    found = check_contribution(model.repo, "breast", place, base=BASE)
    assert (found.name, found.card.task, found.card.labels) == ("breast", "breast", LABELS)
    assert (found.config.rank, found.config.alpha, found.config.rslora) == (2, 16.0, False)
    assert found.adapter.modules == {"trunk.layer.0.q_proj": (3, 4)} and found.adapter.parameters == 14
    view = found.distilled
    assert (view.images, view.height, view.width, view.per_class, view.method) == (4, 4, 5, (2, 2), "dm")
    assert found.files.entry(0.25) == items.read_item(model.repo, place).entry("breast")
    assert found.files.missing == ()
    assert disagreements(model.repo, place) == []


def test_places_differ(model: SampleModel) -> None:
    committed = find_files(model.repo, "lung", "HEAD").blobs
    model.write_contribution("lung", version=7)
    changed = find_files(model.repo, "lung", WORK_TREE).blobs
    for file in contribution_files():
        assert changed[file] == model.git("hash-object", f"contributions/lung/{file}")
    assert find_files(model.repo, "lung", INDEX).blobs == committed != changed
    model.git("add", "--all")
    assert find_files(model.repo, "lung", INDEX).blobs == changed
    assert find_files(model.repo, "lung", "HEAD").blobs == committed
    assert names_in(model.repo, "HEAD~1") == ("lung",)


def test_an_untracked_contribution(model: SampleModel) -> None:
    model.write_contribution("colon")
    (model.top / "contributions/colon/distilled.safetensors").unlink()
    (model.top / "contributions/README.md").write_text("A file beside the contributions is none.")
    assert names_in(model.repo, WORK_TREE) == ("breast", "colon", "lung")
    assert names_in(model.repo, INDEX) == ("breast", "lung")
    assert find_files(model.repo, "colon", WORK_TREE).missing == ("distilled.safetensors",)
    with pytest.raises(ForgeError, match=r"distilled\.safetensors is missing") as caught:
        check_contribution(model.repo, "colon", WORK_TREE)
    assert "git forge distill colon" in str(caught.value.hint)
    with pytest.raises(ForgeError, match=r"no contribution in HEAD:contributions/colon"):
        check_contribution(model.repo, "colon", "HEAD")
    blob = find_files(model.repo, "colon", WORK_TREE).blobs["card.toml"]
    assert model.git("cat-file", "-t", blob, check=False) == ""  # hashed, not stored


def test_names_are_sorted(tmp_path: Path) -> None:
    model = SampleModel(tmp_path)
    for name in ("a", "a-b", "a.b", "B"):
        model.write_contribution(name)
    assert names_in(model.repo, WORK_TREE) == ("B", "a", "a-b", "a.b")


def test_unknown_revision(model: SampleModel) -> None:
    for rev in ("nowhere", "--output=x", "HEAD:forge.toml", ""):
        with pytest.raises(ForgeError, match="unknown revision"):
            names_in(model.repo, rev)


@pytest.mark.parametrize("name", ["../breast", "breast/..", "/etc", ".git", ""])
def test_path_escapes(model: SampleModel, name: str) -> None:
    with pytest.raises(ForgeError, match="cannot be the name"):
        find_files(model.repo, name, WORK_TREE)


@pytest.mark.parametrize("place", [WORK_TREE, INDEX, "HEAD"])
@pytest.mark.parametrize("path", ["contributions", "contributions/lung", "contributions/lung/card.toml"])
def test_links_are_refused(model: SampleModel, tmp_path: Path, path: str, place: str | None) -> None:
    target = tmp_path / "elsewhere"
    shutil.move(model.top / path, target)
    (model.top / path).symlink_to(target)
    model.commit("Link")
    with pytest.raises(ForgeError, match="is a link" if path != "contributions" else "contributions/lung"):
        check_contribution(model.repo, "lung", place)
    assert any("is a link" in line for line in disagreements(model.repo, place))
    if path != "contributions/lung/card.toml":
        with pytest.raises(ForgeError, match=rf"{path} is a link"):
            names_in(model.repo, place)


@pytest.mark.parametrize("place", [WORK_TREE, INDEX, "HEAD"])
def test_a_folder_in_place_of_a_file(model: SampleModel, place: str | None) -> None:
    model.git("rm", "-q", "contributions/lung/card.toml")
    model.write("contributions/lung/card.toml/x", b"")
    model.commit("Folder")
    with pytest.raises(ForgeError, match=r"lung/card\.toml is a link, a submodule or a folder"):
        check_contribution(model.repo, "lung", place)


@pytest.mark.parametrize("place", [WORK_TREE, INDEX, "HEAD"])
def test_a_submodule_in_place_of_a_folder(model: SampleModel, place: str | None) -> None:
    model.git("rm", "-q", "-r", "contributions/lung")
    head = model.git("rev-parse", "HEAD")
    model.git("update-index", "--add", "--cacheinfo", f"160000,{head},contributions/lung")
    model.git("commit", "-q", "-m", "Submodule")
    with pytest.raises(ForgeError, match="contributions/lung is a link, a submodule"):
        names_in(model.repo, place)


def test_a_name_that_cannot_be_one(model: SampleModel) -> None:
    model.write("contributions/my data/card.toml", b"")
    with pytest.raises(ForgeError, match="'my data' cannot be the name"):
        names_in(model.repo, WORK_TREE)


def test_unmerged_files(model: SampleModel) -> None:
    model.git("checkout", "-q", "-b", "other")
    model.write_contribution("lung", version=8)
    model.commit("Theirs")
    model.git("checkout", "-q", "main")
    model.write_contribution("lung", version=9)
    model.commit("Ours")
    model.git("merge", "other", check=False)
    for place in (WORK_TREE, INDEX):
        with pytest.raises(ForgeError, match="merge conflict") as caught:
            find_files(model.repo, "lung", place)
        assert "git merge --abort" in str(caught.value.hint)


def test_another_base(model: SampleModel) -> None:
    other = Base("ViT-B-16/openai", "sha256:1")
    with pytest.raises(ForgeError, match=r"card.toml: this adapter was trained on another base: embedded") as e:
        check_contribution(model.repo, "lung", WORK_TREE, base=other)
    assert "git forge train lung" in str(e.value.hint)


def test_limits(model: SampleModel) -> None:
    model.write("big.bin", b"0" * (2**20 + 1))
    (model.top / "contributions/lung/adapter_model.safetensors").write_bytes(b"0" * (2**20 + 1))
    limits = LimitSettings(file_mebibytes=1)
    with pytest.raises(ForgeError, match="more than the limit"):
        check_contribution(model.repo, "lung", WORK_TREE, limits=limits)
    model.commit("Big")
    with pytest.raises(ForgeError, match="more than the limit"):
        check_contribution(model.repo, "lung", "HEAD", limits=limits)
    with pytest.raises(ForgeError, match="4 images, but 1 to 3 are allowed"):
        check_contribution(model.repo, "breast", "HEAD", limits=LimitSettings(distilled_images=3))


@pytest.mark.parametrize("place", [WORK_TREE, "HEAD"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": (LABELS[0], "something else")}, "labels differ from those of distilled.safetensors"),
        ({"task": "something else"}, "the task is 'something else', that of distilled.safetensors is 'lung'"),
    ],
)
def test_card_and_distilled_dataset_must_agree(
    model: SampleModel, place: str | None, change: dict[str, object], message: str
) -> None:
    changed = replace(card.Card("lung", LABELS, BASE), **change)  # type: ignore[arg-type]
    model.write("contributions/lung/card.toml", card.to_toml(changed).encode())
    model.commit("Card")
    with pytest.raises(ForgeError, match=message):
        check_contribution(model.repo, "lung", place)


def test_pointers(model: SampleModel) -> None:
    assert pointers(model.repo, ["lung"]) == []
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    model.write("contributions/lung/distilled.safetensors", pointer)
    assert pointers(model.repo, ["lung"]) == ["contributions/lung/distilled.safetensors"]
    with pytest.raises(ForgeError, match="git-lfs pointer"):
        check_contribution(model.repo, "lung", WORK_TREE)


def edit_item(model: SampleModel) -> None:
    path = model.top / ITEM_FILE
    path.write_text(path.read_text().replace("0.25", "0.75"))


def other_settings(model: SampleModel) -> None:
    path = model.top / "forge.toml"
    text = path.read_text().replace("mixture", "fusion").replace('embedded"', 'other"').replace("000", "111")
    path.write_text(text)


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (lambda model: model.write_contribution("colon"), ["contributions/colon is not in the forge item"]),
        (
            lambda model: shutil.rmtree(model.top / "contributions/lung"),
            ["the forge item names lung, but there is no contributions/lung"],
        ),
        (
            lambda model: model.write(path_of("lung", "distilled.safetensors"), distilled("lung", version=9)),
            ["contributions/lung/distilled.safetensors is [0-9a-f]{10}, but the forge item names [0-9a-f]{10}"],
        ),
        (
            lambda model: (model.top / "contributions/breast/adapter_config.json").unlink(),
            ["contributions/breast/adapter_config.json is missing"],
        ),
        (edit_item, [r".*forge-item\.json: the digest does not match: edited by hand.*"]),
        (lambda model: (model.top / ITEM_FILE).unlink(), ["there is no forge-item.json"]),
        (
            other_settings,
            [r"forge.toml names the base other \(.*\), the forge item embedded \(.*\)",
             "forge.toml names the strategy fusion, the forge item mixture"],
        ),
    ],
)  # fmt: skip
def test_disagreements(model: SampleModel, change: Callable[[SampleModel], object], lines: list[str]) -> None:
    import re

    change(model)
    for place in (WORK_TREE, "HEAD"):
        if place == "HEAD":
            model.commit("Disagree")
        found = disagreements(model.repo, place)
        assert len(found) == len(lines)
        assert all(re.fullmatch(line, text) for line, text in zip(lines, found, strict=True)), found


# Payloads, without a repository.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'"),
        ({"peft_type": None}, "peft_type is None"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"use_dora": "yes"}, "use_dora must be true or false"),
        ({"use_dora": 1}, "use_dora must be true or false"),
        ({"rank_pattern": {"q": 4}}, "rank_pattern is set"),
        ({"alpha_pattern": {"q": 4}}, "alpha_pattern is set"),
        ({"modules_to_save": ["head"]}, "modules_to_save is set"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out is set"),
        ({"lora_bias": True}, "lora_bias is set"),
        ({"a_variant_of_tomorrow": 1}, "a_variant_of_tomorrow is set"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_niter_4'"),
        ({"r": 0}, "r must be a whole number"),
        ({"r": 2.0}, "r must be a whole number"),
        ({"r": True}, "r must be a whole number"),
        ({"lora_alpha": "16"}, "lora_alpha must be a finite number"),
        ({"lora_alpha": float("nan")}, "lora_alpha must be a finite number"),
        ({"use_rslora": "yes"}, "use_rslora must be true or false"),
    ],
)
def test_refused_adapter_config(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ForgeError, match=f"^config: .*{message}"):
        adapter_format.check_adapter_config(adapter_config(**changes), "config")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"\xff", b'{"r": 1, "r": 1}', b"[" * 100_000, b" " * (2**20 + 1), b"1" * 5000]
)
def test_refused_adapter_config_text(data: bytes) -> None:
    with pytest.raises(ForgeError, match=r"^config: "):
        adapter_format.check_adapter_config(data, "config")


def test_config_as_peft_writes_it() -> None:
    config = {
        "alpha_pattern": {}, "arrow_config": None, "auto_mapping": None, "base_model_name_or_path": None,
        "bias": "none", "corda_config": None, "ensure_weight_tying": False, "eva_config": None,
        "exclude_modules": None, "fan_in_fan_out": False, "inference_mode": True, "init_lora_weights": True,
        "layer_replication": None, "layers_pattern": None, "layers_to_transform": None, "loftq_config": {},
        "lora_alpha": 8.5, "lora_bias": False, "lora_dropout": 0.1, "megatron_config": None,
        "megatron_core": "megatron.core", "modules_to_save": None, "peft_type": "LORA",
        "peft_version": "0.21.2", "qalora_group_size": 16, "r": 16, "rank_pattern": {}, "revision": None,
        "target_modules": ["q_proj", "v_proj"], "target_parameters": None, "task_type": None,
        "trainable_token_indices": None, "use_dora": False, "use_qalora": False, "use_rslora": True,
    }  # fmt: skip
    found = adapter_format.check_adapter_config(json.dumps(config).encode(), "config")
    assert found == adapter_format.AdapterConfig(16, 8.5, rslora=True, dora=False)
    assert found.kind == "LoRA"
    found = adapter_format.check_adapter_config(json.dumps(config | {"use_dora": True}).encode(), "config")
    assert found == adapter_format.AdapterConfig(16, 8.5, rslora=True, dora=True)
    assert found.kind == "DoRA"
    found = adapter_format.check_adapter_config(json.dumps(config | {"use_dora": None}).encode(), "config")
    assert not found.dora


KEY = "base_model.model.x.lora_A.weight", "base_model.model.x.lora_B.weight"
A, B = np.ones((2, 4), np.float32), np.ones((3, 2), np.float32)
M, LENGTHS = "base_model.model.x.lora_magnitude_vector", np.full(3, 0.5, np.float32)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "holds no factors"),
        ({KEY[0]: A}, "x has lora_A alone"),
        ({KEY[1]: B}, "x has lora_B alone"),
        ({KEY[0]: A, KEY[1]: B, M: LENGTHS}, "x.lora_magnitude_vector is the magnitude of a DoRA, but .* not set use_"),
        ({M: LENGTHS}, "does not set use_dora"),
        ({"x.lora_A.weight": A, "x.lora_B.weight": B}, "'x.lora_A.weight' is not a factor"),
        ({"base_model.model.x.lora_A.default.weight": A}, "is not a factor"),
        ({"base_model.model.../x.lora_A.weight": A}, "is not a factor"),
        ({KEY[0]: A[0], KEY[1]: B}, "no matrices"),
        ({KEY[0]: A[:, :0], KEY[1]: B}, "no matrices"),
        ({KEY[0]: A[:1], KEY[1]: B[:, :1]}, r"lora_A \(1, 4\) and lora_B \(3, 1\), but r is 2"),
        ({KEY[0]: A, KEY[1]: B.T}, "but r is 2"),
        ({KEY[0]: A.astype(np.int64), KEY[1]: B}, "not floating point"),
    ],
)
def test_refused_adapter(tensors: dict[str, np.ndarray], message: str) -> None:
    config = adapter_format.AdapterConfig(2, 16.0, False)
    with pytest.raises(ForgeError, match=message):
        adapter_format.check_adapter(safetensors_format.to_bytes(tensors), config, "adapter")


def test_refused_values() -> None:
    data = bytearray(adapter())
    data[-4:] = np.float32(np.nan).tobytes()
    with pytest.raises(ForgeError, match="NaN"):
        adapter_format.check_adapter(bytes(data), adapter_format.AdapterConfig(2, 16.0, False), "adapter")


DORA = {KEY[0]: A, KEY[1]: B, M: LENGTHS}


@pytest.mark.parametrize("name", [M, f"{M}.weight"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_a_dora(name: str, dtype: type) -> None:
    tensors = {KEY[0]: A, KEY[1]: B, name: LENGTHS.astype(dtype)}
    config = adapter_format.AdapterConfig(2, 16.0, False, dora=True)
    data = safetensors_format.to_bytes(tensors)
    found = adapter_format.check_adapter(data, config, "adapter")
    assert found == adapter_format.AdapterView({"x": (3, 4)}, 2 * 4 + 3 * 2 + 3, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({M: None}, "x has no lora_magnitude_vector, but adapter_config.json sets use_dora"),
        ({KEY[0]: None}, "x has no lora_A"),
        ({KEY[1]: None}, "x has no lora_B"),
        ({KEY[0]: None, KEY[1]: None}, "x has lora_magnitude_vector alone"),
        ({M: LENGTHS[:2]}, r"x has a magnitude of the shape \(2,\), not \(3,\)"),
        ({M: LENGTHS[:0]}, r"x has a magnitude of the shape \(0,\)"),
        ({M: LENGTHS[:1]}, r"x has a magnitude of the shape \(1,\)"),
        ({M: LENGTHS.reshape(3, 1)}, r"x has a magnitude of the shape \(3, 1\)"),
        ({M: LENGTHS.reshape(1, 3)}, r"x has a magnitude of the shape \(1, 3\)"),
        ({M: np.float32(1)}, r"x has a magnitude of the shape \(\)"),
        ({M: np.ones(3, np.int64)}, "not floating point"),
        ({f"{M}.weight": LENGTHS}, "lora_magnitude_vector under two names"),
        ({f"{M}.default": LENGTHS}, "is not a factor"),
        ({M.replace("x", "y"): LENGTHS}, "y has lora_magnitude_vector alone"),
        ({"base_model.model.lora_magnitude_vector": LENGTHS}, "is not a factor"),
    ],
)
def test_refused_dora(changes: dict[str, np.ndarray | None], message: str) -> None:
    tensors = {name: array for name, array in (DORA | changes).items() if array is not None}
    config = adapter_format.AdapterConfig(2, 16.0, False, dora=True)
    with pytest.raises(ForgeError, match=f"^adapter: .*{message}"):
        adapter_format.check_adapter(safetensors_format.to_bytes(tensors), config, "adapter")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refused_values_of_a_magnitude(value: float) -> None:
    data = safetensors_format.to_bytes(DORA)
    assert data.count(LENGTHS.tobytes()) == 1
    data = data.replace(LENGTHS.tobytes(), np.array([1, value, 1], np.float32).tobytes())
    with pytest.raises(ForgeError, match=r"^adapter: .*lora_magnitude_vector holds NaN or infinity"):
        adapter_format.check_adapter(data, adapter_format.AdapterConfig(2, 16.0, False, dora=True), "adapter")


IMAGES = {
    "images": np.zeros((4, 3, 2, 2), np.uint8),
    "labels": np.array([0, 1, 0, 1]),
    "offset": np.zeros(3, np.float32),
    "scale": np.ones(3, np.float32),
}
ABOUT = {"task": "lung", "labels": json.dumps(LABELS)}


@pytest.mark.parametrize(
    ("changes", "about", "message"),
    [
        ({"images": None}, {}, "the tensor 'images' is missing"),
        ({"labels": None}, {}, "the tensor 'labels' is missing"),
        ({"extra": np.zeros(1)}, {}, "unknown tensor 'extra'"),
        ({"images": IMAGES["images"].astype(np.float32)}, {}, "'images' is F32, not U8"),
        ({"images": IMAGES["images"][:, :1]}, {}, r"'images' has the shape \(4, 1, 2, 2\)"),
        ({"images": IMAGES["images"][0]}, {}, r"'images' has the shape \(3, 2, 2\)"),
        ({"images": IMAGES["images"][:, :, :0]}, {}, "'images' has the shape"),
        ({"images": IMAGES["images"][:0]}, {}, "0 images, but 1 to"),
        ({"labels": np.array([0, 1])}, {}, r"'labels' has the shape \(2,\)"),
        ({"labels": np.array([0, 1, 2, 1])}, {}, "class numbers go beyond the 2 labels"),
        ({"labels": np.array([0, 1, -1, 1])}, {}, "class numbers go beyond the 2 labels"),
        ({"labels": np.array([0, 0, 0, 0])}, {}, "no image of the label 'malignant tumor'"),
        ({"offset": np.zeros(1, np.float32)}, {}, "'offset' has the shape"),
        ({"scale": np.ones(3)}, {}, "'scale' is F64, not F32"),
        ({}, {"task": None}, "names no task"),
        ({}, {"task": " "}, "the task must be text"),
        ({}, {"labels": None}, "names no labels"),
        ({}, {"labels": "benign"}, "not a JSON list"),
        ({}, {"labels": "[" * 100_000}, "not a JSON list"),
        ({}, {"labels": '{"a": 1}'}, "must be a list of texts"),
        ({}, {"labels": '["a", "A "]'}, "is there twice"),
    ],
)
def test_refused_distilled(changes: dict[str, np.ndarray | None], about: dict[str, str | None], message: str) -> None:
    tensors = {name: array for name, array in (IMAGES | changes).items() if array is not None}
    metadata = {key: text for key, text in (ABOUT | about).items() if text is not None}
    with pytest.raises(ForgeError, match=f"^distilled: .*{message}"):
        distilled_format.check_distilled(safetensors_format.to_bytes(tensors, metadata), "distilled")


def test_a_pickle_is_refused(model: SampleModel) -> None:
    model.write("contributions/lung/adapter_model.safetensors", b"\x80\x04\x95" + b"\x00" * 100)
    with pytest.raises(ForgeError, match=r"contributions/lung/adapter_model.safetensors: .*pickle"):
        check_contribution(model.repo, "lung", WORK_TREE)


def test_many_are_checked_by_one_process_and_each_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with one is said of that one, in the words that it has alone; the others are whole."""
    from forge.git import running as git_side

    model = SampleModel(tmp_path / "model")
    names = ["ada", "bad", "carl", "dora", "eve"]
    for name in names:
        model.write_contribution(name)
    model.write(path_of("bad", "adapter_config.json"), b"{}")
    (model.top / path_of("dora", "distilled.safetensors")).unlink()
    model.write(path_of("eve", "distilled.safetensors"), b"nothing")
    model.commit("Five")
    limits = LimitSettings()
    started: list[list[str]] = []
    start = git_side._open
    monkeypatch.setattr(git_side, "_open", lambda command, repo: started.append(command) or start(command, repo))
    found = dict(check_contributions(model.repo, "HEAD", [*names, "nobody"], base=BASE, limits=limits))
    assert len(started) == 1
    assert list(found) == [*names, "nobody"]
    for name, one in found.items():
        try:
            assert one == check_contribution(model.repo, name, "HEAD", base=BASE, limits=limits)
            assert name in ("ada", "carl")
        except ForgeError as error:
            assert isinstance(one, ForgeError) and (one.message, one.hint) == (error.message, error.hint)
            assert name in ("bad", "dora", "eve", "nobody")
