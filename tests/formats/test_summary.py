"""Summaries are compared whole: they are what a reviewer reads."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.errors import ForgeError
from forge.formats import summary
from forge.formats.safetensors import to_bytes
from forge.formats.summary import summarise
from forge.recipe.item import Base, Consolidation, Entry, ForgeItem, Search, TaskScore
from forge.recipe.item_text import to_json

ADAPTER = {
    "base_model.model.visual.proj.lora_A.weight": np.array([[3.0, 0.0], [0.0, 4.0]], "f4"),
    "base_model.model.visual.proj.lora_B.weight": np.zeros((4, 2), "f2"),
    "base_model.model.visual.blocks.0.q.lora_A.weight": np.ones((1, 4), "f4"),
}


def summary_of(content: bytes, tmp_path: Path) -> str:
    path = tmp_path / "a temporary name"
    path.write_bytes(content)
    return summarise(path).decode()


def test_an_adapter(tmp_path: Path) -> None:
    content = to_bytes(ADAPTER, {"format": "pt"})
    assert summary_of(content, tmp_path) == (
        "adapter: LoRA on 2 modules, 16 parameters\n"
        "\n"
        "module             rank  A    B        dtype    ||A||  ||B||\n"
        "visual.blocks.0.q     1  1x4  missing  F32          2      -\n"
        "visual.proj           2  2x2  4x2      F16/F32      5      0\n"
        "\n"
        "format: pt\n"
        f"{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()[:16]}\n"
    )


def test_blocks_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = [f"base_model.model.blocks.{block}.q.lora_A.weight" for block in (10, 9, 0)]
    content = to_bytes({name: np.ones((1, 1), "f4") for name in names})
    rows = [line.split()[0] for line in summary_of(content, tmp_path).splitlines() if line.startswith("blocks")]
    assert rows == ["blocks.0.q", "blocks.9.q", "blocks.10.q"]


def distilled(**changes: Any) -> bytes:
    images = np.zeros((3, 3, 2, 2), "u1")
    images[:, 0] = 255
    tensors = {
        "images": images,
        "labels": np.array([0, 1, 1]),
        "offset": np.array([0.0, 0.25, 0.5], "f4"),
        "scale": np.full(3, 1 / 255, "f4"),
    }
    metadata = {"task": "colon", "labels": json.dumps(["benign", "a tumour"]), "ipc": "2"}
    return to_bytes(tensors | changes, metadata)


def test_a_distilled_dataset(tmp_path: Path) -> None:
    content = distilled()
    assert summary_of(content, tmp_path) == (
        "distilled dataset: 3 images of 2 x 2, 3 channels, U8\n"
        "task: colon\n"
        "\n"
        "label  text      images\n"
        "    0  benign         1\n"
        "    1  a tumour       2\n"
        "\n"
        "channel  least  mean  most\n"
        "      0      1     1     1\n"
        "      1   0.25  0.25  0.25\n"
        "      2    0.5   0.5   0.5\n"
        "\n"
        "ipc: 2\n"
        f"{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()[:16]}\n"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"images": np.zeros((3, 4), "u1")},
        {"labels": np.zeros(2, "i8")},
        {"labels": np.zeros(3, "f4")},
        {"offset": np.zeros(7, "f4")},
        {"images": np.zeros((0, 3, 2, 2), "u1"), "labels": np.zeros(0, "i8")},
        {"labels": np.array([-1, 5, 2**62])},
        {"scale": np.full(3, 3e38, "f4"), "offset": np.full(3, -3e38, "f4")},
    ],
)
def test_what_only_looks_like_a_distilled_dataset_is_still_summarised(changes: dict[str, Any], tmp_path: Path) -> None:
    assert "bytes, sha256" in summary_of(distilled(**changes), tmp_path)


def test_any_tensors(tmp_path: Path) -> None:
    content = to_bytes({"b": np.array([3.0, 4.0]), "a": np.array(True)}, {"k\x1b[31m": "v"})
    assert summary_of(content, tmp_path).splitlines()[:-1] == [
        "k\\x1b[31m: v",
        "tensor  dtype  shape   least  mean  most  norm",
        "a       BOOL   scalar      1     1     1     1",
        "b       F64    2           3   3.5     4     5",
        "",
    ]


def test_values_that_are_not_finite_are_shown(tmp_path: Path) -> None:
    content = to_bytes({"w": np.ones(1, "f4")})[:-4] + np.array([np.nan], "<f4").tobytes()
    assert "nan" in summary_of(content, tmp_path)


def test_different_tensors_never_look_the_same(tmp_path: Path) -> None:
    one, other = (to_bytes({"w": np.array([0.0, value])}) for value in (1.0, 1 + 1e-9))
    first, second = (summary_of(content, tmp_path) for content in (one, other))
    assert first != second
    assert first.splitlines()[:-1] == second.splitlines()[:-1]


ITEM = ForgeItem(
    base=Base("embedded", "sha256:" + "ab" * 32),
    strategy="mixture",
    contributions=(Entry("ada", "1" * 40, "2" * 40, "3" * 40, 0.5), Entry("ben", "4" * 40, "5" * 40, "6" * 40, -1)),
    search=Search(
        "shiwa",
        "contribution",
        "cross-entropy",
        0,
        "Shiwa",
        3,
        40,
        0.5,
        1.5,
        0.05,
        {"ours": 0.75, "theirs": 1.0},
        0.9,
        0.625,
    ),
    scores=(TaskScore("colon", ("benign", "a tumour"), 40, 0.875, 0.5, None, None),),
)


def test_a_forge_item(tmp_path: Path) -> None:
    assert summary_of(to_json(ITEM).encode(), tmp_path) == (
        "forge item: mixture on embedded (sha256:abababababababab)\n"
        "\n"
        "contribution  coefficient  adapter     distilled\n"
        "ada              0.500000  1111111111  3333333333\n"
        "ben             -1.000000  4444444444  6666666666\n"
        "\n"
        "search\n"
        "method: shiwa, one coefficient per contribution\n"
        "optimizer: Shiwa, seed 3, 40 evaluations\n"
        "start, bounds, L1: 0.5, ±1.5, 0.05\n"
        "scale of ours: 0.750000\n"
        "scale of theirs: 1.000000\n"
        "objective: cross-entropy, 0.900000 -> 0.625000\n"
        "\n"
        "task   images  accuracy before  after  cross-entropy before   after\n"
        "colon      40                -  0.875                     -  0.5000\n"
        "labels of colon: benign; a tumour\n"
    )


def test_a_richer_forge_item(tmp_path: Path) -> None:
    """One coefficient per module, coefficients per task and a consolidation: every number of them."""
    ada, ben = ITEM.contributions
    per_module = {"v.10.q": 0.5, "v.9.q": 0.25}
    item = replace(
        ITEM,
        contributions=(
            replace(ada, coefficient=per_module, tasks={"colon": {"v.9.q": 1.0, "v.10.q": 1.5}}),
            replace(ben, tasks={"colon": 0.0}),
        ),
        search=Search("joint", "module", "distillation", 0.01, "Shiwa", 0, 40, 0.5, 1.5, 0.05, {}, None, 0.625),
        consolidation=Consolidation("7" * 40, "8" * 40, 40, 0.001, 0, 0.5, 0.4),
    )
    assert summary_of(to_json(item).encode(), tmp_path).split("\ntask ")[0] == (
        "forge item: mixture, task-aware, consolidated on embedded (sha256:abababababababab)\n"
        "\n"
        "contribution                coefficient  adapter     distilled\n"
        "ada           0.375000 (0.250 to 0.500)  1111111111  3333333333\n"
        "ben                           -1.000000  4444444444  6666666666\n"
        "\n"
        "coefficients by module\n"
        "Module       ada        ben\n"
        "v.9.q   0.250000  -1.000000\n"
        "v.10.q  0.500000  -1.000000\n"
        "\n"
        "coefficients by task\n"
        "Task                         ada       ben\n"
        "colon  1.250000 (1.000 to 1.500)  0.000000\n"
        "\n"
        "coefficients by module for colon\n"
        "Module       ada       ben\n"
        "v.9.q   1.000000  0.000000\n"
        "v.10.q  1.500000  0.000000\n"
        "\n"
        "search\n"
        "method: joint, one coefficient per module\n"
        "evaluations: at most 40\n"
        "start, bounds, L1: 0.5, ±1.5, 0.05\n"
        "pull: 0.01\n"
        "objective: distillation, 0.625000\n"
        "\n"
        "consolidation: adapter 7777777777, 40 steps at 0.001, seed 0, objective 0.500000 -> 0.400000\n"
    )


@pytest.mark.parametrize("suffix", ["lora_magnitude_vector", "lora_magnitude_vector.weight"])
def test_a_dora_is_called_one(suffix: str, tmp_path: Path) -> None:
    tensors = {
        "base_model.model.q.lora_A.weight": np.full((2, 4), 3.0, "f4"),
        "base_model.model.q.lora_B.weight": np.zeros((3, 2), "f4"),
        f"base_model.model.q.{suffix}": np.array([2.0, 1.0, 2.0], "f4"),
    }
    assert summary_of(to_bytes(tensors), tmp_path).splitlines()[:4] == [
        "adapter: DoRA on 1 modules, 17 parameters",
        "",
        "module  rank  A    B    dtype  ||A||  ||B||  ||m||",
        "q          2  2x4  3x2  F32    8.485      0      3",
    ]


def test_an_empty_forge_item(tmp_path: Path) -> None:
    text = summary_of(to_json(ForgeItem(ITEM.base, "fusion")).encode(), tmp_path)
    assert text == "forge item: fusion on embedded (sha256:abababababababab)\nno contributions: the base itself\n"


def test_a_forge_item_that_was_edited_is_shown_as_it_stands(tmp_path: Path) -> None:
    edited = to_json(ITEM).replace("0.5", "0.6")
    assert summary_of(edited.encode(), tmp_path) == edited


@pytest.mark.parametrize("content", [b"", b"plain text\n", b"<<<<<<< ours\nx\n", b'{"a": 1}', b" "])
def test_text_is_shown_as_it_stands(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    assert summarise(path) == content


def test_a_damaged_file_is_named_as_such(tmp_path: Path) -> None:
    text = summary_of(to_bytes(ADAPTER)[:-5], tmp_path)
    assert text.startswith("this file: has ")
    assert "it is cut off" in text
    assert "sha256" in text


@pytest.mark.parametrize("content", [b"{\xff", b"\0", b"PK\x03\x04\xff"])
def test_anything_else_gets_its_digest(content: bytes, tmp_path: Path) -> None:
    assert "bytes, sha256 " in summary_of(content, tmp_path)


def test_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ForgeError, match="No such file"):
        summarise(tmp_path / "nothing")


@given(st.data())
def test_a_textconv_never_fails(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from([distilled(), to_bytes(ADAPTER), to_json(ITEM).encode()])))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "fuzz"
    path.write_bytes(content)
    assert summarise(path)


def test_however_large_a_file_is_little_of_it_is_held(tmp_path: Path) -> None:
    """Equal pixels compress to nothing: a small push holds them, and git asks for every version that it shows."""
    import tracemalloc

    count = 40
    for name, shape in (("images", (count, 3, 512, 512)), ("images", (1, 1, 8192, 4096)), ("other", (8192, 4096))):
        tensors = {name: np.zeros(shape, np.uint8), "labels": np.zeros(shape[0], np.int64)}
        path = tmp_path / "large.safetensors"
        path.write_bytes(to_bytes(tensors))
        del tensors
        tracemalloc.start()
        try:
            text = summarise(path).decode()
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < 20 * 2**20 < path.stat().st_size, (shape, most)
        assert f"{path.stat().st_size:,} bytes" in text


def test_parts_of_a_file_give_the_figures_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against numpy over all values at once; parts end within images, and within channels."""
    random = np.random.default_rng(3)
    images = random.integers(0, 256, size=(7, 3, 5, 6), dtype=np.uint8)
    weight = random.normal(size=(11, 13)).astype(np.float32)
    path = tmp_path / "file.safetensors"
    labels = (np.arange(7) % 2).astype(np.int64)
    path.write_bytes(to_bytes({"images": images, "labels": labels}))
    expected = [[f"{v:.4g}" for v in (c.min(), c.mean(), c.max())] for c in images.swapaxes(0, 1).astype(float)]
    for chunk in (1, 4, 50, 90, 200, 10**6):
        monkeypatch.setattr(summary, "CHUNK", chunk)
        lines = summarise(path).decode().splitlines()
        start = lines.index(next(line for line in lines if line.startswith("channel")))
        assert [line.split()[1:] for line in lines[start + 1 : start + 4]] == expected
    path.write_bytes(to_bytes({"weight": weight}))
    row = next(line for line in summarise(path).decode().splitlines() if line.startswith("weight"))
    exact = weight.astype(float)
    figures = (exact.min(), exact.mean(), exact.max(), np.linalg.norm(exact))
    assert row.split()[3:] == [f"{value:.4g}" for value in figures]
