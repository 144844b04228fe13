"""What comes from outside and is not what it should be: refused by name, and nothing changes."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save
from story.conftest import Files
from story.hospitals import (
    LABELS,
    Merged,
    Said,
    adapter_config,
    change_settings,
    contribution_files,
    copy_repository,
    distilled_arrays,
    distilled_bytes,
    forge,
    forge_ok,
    git,
    git_ok,
    random_adapter,
    write_contribution,
)
from story.snapshots import assert_refused, snapshot

from forge.model.base import BaseModel

CONFIG, ADAPTER, DISTILLED, CARD = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "distilled.safetensors",
    "card.toml",
)
QUERY = "base_model.model.trunk.transformer.resblocks.0.attn.q_proj"


class Bomb:
    """Unpickling this makes a folder."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.mkdir, (Path("exploded"),))  # type: ignore[return-value]


def header_says(content: bytes, change: Callable[[dict[str, dict[str, object]]], None]) -> bytes:
    """The same file with another header."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def longer_than_it_is(header: dict[str, dict[str, object]]) -> None:
    first = header[f"{QUERY}.lora_A.weight"]
    begin, end = first["data_offsets"]  # type: ignore[misc]
    first["data_offsets"] = [begin, end + 4]


def with_tensors(adapter: bytes, **changes: np.ndarray) -> bytes:
    return save({**load(adapter), **{key.replace("__", "."): value for key, value in changes.items()}})


def with_value(adapter: bytes, value: float) -> bytes:
    tensors = {key: tensor.copy() for key, tensor in load(adapter).items()}
    tensors[f"{QUERY}.lora_A.weight"][0, 0] = value
    return save(tensors)


def other_shapes(adapter: bytes) -> bytes:
    return save({key: np.concatenate([tensor, tensor], axis=1 if "lora_A" in key else 0)
                 for key, tensor in load(adapter).items()})  # fmt: skip


def labelled(labels: list[str], classes: int = 2) -> bytes:
    return distilled_bytes(distilled_arrays(classes, 5), "breast", labels)


ADAPTERS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a pickle": (lambda good: pickle.dumps(Bomb()), "pickle"),
    "an empty file": (lambda good: b"", "no safetensors file"),
    "cut short": (lambda good: good[:-100], ""),
    "cut within the header": (lambda good: good[:60], ""),
    "a header length beyond the file": (lambda good: struct.pack("<Q", 10**9) + good[8:], ""),
    "an offset that lies": (lambda good: header_says(good, longer_than_it_is), ""),
    "NaN": (lambda good: with_value(good, float("nan")), "NaN"),
    "infinity": (lambda good: with_value(good, float("inf")), "infin"),
    "unknown keys": (lambda good: save({**load(good), "extra.weight": np.zeros(3, np.float32)}), "extra.weight"),
    "one factor alone": (
        lambda good: save({key: value for key, value in load(good).items() if key != f"{QUERY}.lora_B.weight"}),
        "lora_A alone",
    ),
    "shapes of another base": (other_shapes, ""),
    "a module that the base lacks": (
        lambda good: save({key.replace("resblocks.1", "resblocks.7"): value for key, value in load(good).items()}),
        "trunk.transformer.resblocks.7.attn.",
    ),
    "whole numbers": (lambda good: save({key: value.astype(np.int64) for key, value in load(good).items()}), "I64"),
}
DATASETS: dict[str, tuple[bytes, str]] = {
    "a pickle": (pickle.dumps(Bomb()), "pickle"),
    "labels doubled": (labelled(["benign", "benign"]), "twice"),
    "a label alone": (labelled(["benign"]), "labels"),
    "too few labels": (labelled(["a", "b"], classes=3), "class numbers go beyond"),
    "a label without an image": (labelled(["a", "b", "c"]), "no image of the label 'c'"),
    "no metadata": (save(distilled_arrays(2, 5)), "names no task"),
    "an unknown tensor": (
        distilled_bytes({**distilled_arrays(2, 5), "raw": np.zeros(2, np.uint8)}, "x", ["a", "b"]),
        "raw",
    ),
    "scale not finite": (
        distilled_bytes({**distilled_arrays(2, 5), "scale": np.full(3, np.nan, np.float32)}, "x", ["a", "b"]),
        "NaN",
    ),
    "another image size": (
        distilled_bytes(
            {**distilled_arrays(2, 5), "images": np.zeros((8, 3, 16, 16), np.uint8)}, "x", LABELS["breast"]
        ),
        "16x16",
    ),
}


@pytest.fixture
def elsewhere(tmp_path: Path, contributions: Files) -> Path:
    """A folder outside the repository with a good contribution of breast."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name, content in contributions["breast"].items():
        (folder / name).write_bytes(content)
    return folder


def outside_of(model: Path) -> list[Path]:
    """What lies beside the repository; a link may lead there."""
    return sorted(path for path in model.parent.rglob("*") if model not in path.parents)


def add(model: Path, elsewhere: Path, *more: str) -> Said:
    return forge(model, "add", "incoming", "--adapter", elsewhere, "--distilled", elsewhere / DISTILLED, *more)


def test_a_good_one_is_taken_in_and_committed(model: Path, elsewhere: Path) -> None:
    said = add(model, elsewhere)
    assert said.code == 0 and "contributions/incoming" in said.out, said
    forge_ok(model, "commit")
    forge_ok(model, "verify")


def test_one_of_transformers_is_taken_in_under_this_base_s_names(model: Path, elsewhere: Path) -> None:
    good = load((elsewhere / ADAPTER).read_bytes())

    def renamed(key: str) -> str:
        other = key.replace("trunk.transformer.resblocks", "vision_model.encoder.layers").replace(
            ".attn.", ".self_attn."
        )
        return other.replace("model.projection", "model.visual_projection")

    (elsewhere / ADAPTER).write_bytes(save({renamed(key): value for key, value in good.items()}))
    said = add(model, elsewhere)
    assert said.code == 0 and "the names of transformers" in said.out, said
    folder = model / "contributions" / "incoming"
    found = load((folder / ADAPTER).read_bytes())
    assert set(found) == set(good) and all(np.array_equal(found[key], value) for key, value in good.items())
    config = json.loads((folder / CONFIG).read_text())
    assert f"base_model.model.{config['target_modules'][0]}.lora_A.weight" in found
    # By hand, without `git forge add`: refused, and the way is told.
    write_contribution(model, "incoming", {path.name: path.read_bytes() for path in elsewhere.iterdir()})
    said = forge(model, "commit")
    assert_refused(said, "contributions/incoming", "vision_model.encoder.layers.0", "git forge add")
    assert "another base" not in said.err


def test_one_that_says_itself_that_its_base_is_another(model: Path, elsewhere: Path) -> None:
    config = {**json.loads((elsewhere / CONFIG).read_text()), "base_model_name_or_path": "git-forge:sha256:abab"}
    (elsewhere / CONFIG).write_text(json.dumps(config))
    (elsewhere / CARD).unlink()
    assert_refused(add(model, elsewhere), str(elsewhere), "another base", "sha256:abab")


@pytest.mark.parametrize("what", ADAPTERS)
def test_bad_adapters(model: Path, elsewhere: Path, what: str) -> None:
    make, word = ADAPTERS[what]
    (elsewhere / ADAPTER).write_bytes(make((elsewhere / ADAPTER).read_bytes()))
    before = snapshot(model)
    assert_refused(add(model, elsewhere), str(elsewhere), word)
    assert snapshot(model) == before
    assert not list(model.parent.rglob("exploded"))

    # The same file put into the work tree by hand: neither `git forge commit` nor `git add` takes it; but git adds an
    # empty one, which merge.renormalize passes through the filter for a file that a side does not have.
    folder = write_contribution(model, "incoming", {path.name: path.read_bytes() for path in elsewhere.iterdir()})
    before = snapshot(model)
    assert_refused(forge(model, "commit"), "contributions/incoming", word)
    assert snapshot(model) == before
    if what not in ("an empty file", "unknown keys", "one factor alone", "shapes of another base",
                    "a module that the base lacks", "whole numbers"):  # fmt: skip
        done = git(model, "add", str(folder / ADAPTER))
        assert done.returncode != 0
        assert "contributions/incoming/adapter_model.safetensors" in done.stderr and "Traceback" not in done.stderr
        assert snapshot(model) == before


@pytest.mark.parametrize("what", DATASETS)
def test_bad_distilled_sets(model: Path, elsewhere: Path, what: str) -> None:
    content, word = DATASETS[what]
    (elsewhere / DISTILLED).write_bytes(content)
    before = snapshot(model)
    assert_refused(add(model, elsewhere), str(elsewhere / DISTILLED), word)
    assert snapshot(model) == before
    write_contribution(model, "incoming", {path.name: path.read_bytes() for path in elsewhere.iterdir()})
    before = snapshot(model)
    assert_refused(forge(model, "commit"), "contributions/incoming")
    assert snapshot(model) == before


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (b"not json", "not valid JSON"),
        (adapter_config(peft_type="IA3"), "IA3"),
        (adapter_config(use_dora=True), "use_dora"),
        (adapter_config(rank=8), "r is 8"),
        (b'{"peft_type": "LORA", "r": -1, "lora_alpha": 1}', "r must be a whole number"),
    ],
)
def test_bad_configurations(model: Path, elsewhere: Path, config: bytes, word: str) -> None:
    (elsewhere / CONFIG).write_bytes(config)
    before = snapshot(model)
    assert_refused(add(model, elsewhere), str(elsewhere), word)
    assert snapshot(model) == before


def test_a_card_of_another_base(model: Path, elsewhere: Path, base: BaseModel) -> None:
    card = (elsewhere / CARD).read_text().replace(base.fingerprint, "sha256:" + "ab" * 32)
    (elsewhere / CARD).write_text(card)
    before = snapshot(model)
    assert_refused(add(model, elsewhere), str(elsewhere / CARD), "another base", "sha256:abab")
    assert snapshot(model) == before


def test_labels_that_do_not_go_together(model: Path, elsewhere: Path) -> None:
    before = snapshot(model)
    assert_refused(add(model, elsewhere, "--labels", "one"), "label")
    assert_refused(add(model, elsewhere, "--labels", "one", "--labels", "one"), "twice")
    three = ("--labels", "one", "--labels", "two", "--labels", "three")
    assert_refused(add(model, elsewhere, *three), "2 classes, but 3 --labels", *LABELS["breast"])
    assert snapshot(model) == before


@pytest.mark.parametrize("file", [CONFIG, ADAPTER, DISTILLED])
def test_a_folder_with_a_file_missing(model: Path, elsewhere: Path, file: str) -> None:
    (elsewhere / file).unlink()
    before = snapshot(model)
    assert_refused(add(model, elsewhere), str(elsewhere / file))
    assert snapshot(model) == before


def test_a_folder_that_is_there_already(model: Path, elsewhere: Path) -> None:
    assert add(model, elsewhere).code == 0
    before = snapshot(model)
    assert_refused(add(model, elsewhere), "contributions/incoming is there already", "--replace")
    assert snapshot(model) == before
    assert add(model, elsewhere, "--replace").code == 0


@pytest.mark.parametrize("name", ["../outside", "a/b", ".hidden", "", "x" * 300, "a b\n"])
def test_names_that_are_no_folder(model: Path, elsewhere: Path, name: str) -> None:
    before = snapshot(model)
    said = forge(model, "add", name, "--adapter", elsewhere, "--distilled", elsewhere / DISTILLED)
    assert_refused(said)
    assert snapshot(model) == before


def test_files_beyond_the_limits(model: Path, elsewhere: Path) -> None:
    change_settings(model, "distilled_images = 500", "distilled_images = 3")
    git_ok(model, "commit", "--quiet", "-am", "Few images")
    before = snapshot(model)
    assert_refused(add(model, elsewhere), str(elsewhere / DISTILLED), "8 images", "limits.distilled_images")
    assert snapshot(model) == before
    change_settings(model, "file_mebibytes = 256", "file_mebibytes = 1")
    (elsewhere / ADAPTER).write_bytes(save(random_adapter(1, rank=1200)))
    (elsewhere / CONFIG).write_bytes(adapter_config(1200))
    before = snapshot(model)
    assert_refused(add(model, elsewhere), str(elsewhere / ADAPTER), "1,048,576 bytes", "limits.file_mebibytes")
    write_contribution(model, "incoming", {path.name: path.read_bytes() for path in elsewhere.iterdir()})
    done = git(model, "add", "contributions")
    assert done.returncode != 0 and ADAPTER in done.stderr, done.stderr


def test_unequal_ranks_are_for_mixture_only(merged: Merged, base: BaseModel, tmp_path: Path) -> None:
    files = contribution_files(base, "colon", rank=8)
    top = copy_repository(merged("breast"), tmp_path / "mixture")
    write_contribution(top, "colon", files)
    forge_ok(top, "commit")
    top = copy_repository(merged("breast"), tmp_path / "fusion")
    change_settings(top, '"mixture"', '"fusion"')
    forge_ok(top, "commit", "-m", "By fusion")
    write_contribution(top, "colon", files)
    before = snapshot(top)
    assert_refused(forge(top, "commit"), "needs equal ranks", "16", "8", "mixture")
    assert snapshot(top) == before


@pytest.mark.parametrize("link", ["folder", "file", "contributions"])
def test_links_are_not_followed(model: Path, elsewhere: Path, link: str) -> None:
    place = model / "contributions"
    if link == "contributions":
        place.symlink_to(elsewhere.parent)
    elif link == "folder":
        place.mkdir()
        (place / "incoming").symlink_to(elsewhere)
    else:
        write_contribution(model, "incoming", {path.name: path.read_bytes() for path in elsewhere.iterdir()})
        (place / "incoming" / ADAPTER).unlink()
        (place / "incoming" / ADAPTER).symlink_to(elsewhere / ADAPTER)
    before, outside = snapshot(model), outside_of(model)
    assert_refused(forge(model, "commit"), "contributions")
    if link != "file":
        assert_refused(add(model, elsewhere, "--replace"), "contributions")
    assert snapshot(model) == before
    assert outside_of(model) == outside


@pytest.mark.parametrize("file", [CONFIG, ADAPTER, DISTILLED, CARD])
def test_a_commit_of_a_contribution_that_is_not_whole(model: Path, contributions: Files, file: str) -> None:
    files = {name: content for name, content in contributions["lung"].items() if name != file}
    write_contribution(model, "lung", files)
    before = snapshot(model)
    word = "git forge distill lung" if file == DISTILLED else "git forge"
    assert_refused(forge(model, "commit"), f"contributions/lung/{file} is missing", word)
    assert snapshot(model) == before
