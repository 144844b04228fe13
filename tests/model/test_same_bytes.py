"""The same model exported by two processes that hash, count and calculate differently: the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from composed import merged_delta

from forge.model.adapters import Adapter
from forge.model.base import BaseModel
from forge.model.exporting import delta_of

MakeAdapter = Callable[..., Path]
ReadAdapter = Callable[[Path], Adapter]

PROGRAM = """
import json, sys
from pathlib import Path
from safetensors.torch import load_file
from forge.model.adapters import read_adapter
from forge.model.base import load_base
from forge.model.exporting import delta_of, export_open_clip, export_peft

out, place, *folders = map(Path, sys.argv[1:])
base = load_base(str(place))

def read(folder):
    config = json.loads((folder / "adapter_config.json").read_text())
    return read_adapter(config, load_file(folder / "adapter_model.safetensors"), base.tower, source=folder.name)

first, second, dora, other_dora, residual = map(read, folders)
recipes = {
    "loras": [(first, 0.7), (second, -0.4)],
    "modules": [(first, {name: 0.1 * at for at, name in enumerate(first)}), (second, 1.3)],
    "doras": [(dora, 0.7), (other_dora, 0.3)],
    "both": [(first, 0.7), (dora, 0.9)],
}
for name, members in recipes.items():
    for strategy in ("mixture", "fusion"):
        if (name, strategy) == ("both", "fusion"):
            continue  # cannot be added
        for extra in (None, residual):
            folder = out / f"{name}-{strategy}-{'alone' if extra is None else 'consolidated'}"
            export_peft(base, strategy, members, folder / "peft", residual=extra)
            export_open_clip(base, delta_of(strategy, members, residual=extra), folder / "open_clip")
"""
# Without its newer instructions a processor adds up in another order, as another processor does.
OTHER = {
    "PYTHONHASHSEED": "4711", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41",
}  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.long
def test_every_export_is_the_same_bytes(base_folder: Path, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    folders = [
        make_adapter(1, rank=24), make_adapter(2, rank=24, alpha=3), make_adapter(3, rank=24, use_dora=True),
        make_adapter(4, rank=24, alpha=5, use_dora=True), make_adapter(5, rank=2),
    ]  # fmt: skip
    places = tmp_path / "one", tmp_path / "another place" / "two"
    for place, variables in zip(places, ({"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}, OTHER), strict=True):
        command = [sys.executable, "-c", PROGRAM, *map(str, (place, base_folder, *folders))]
        subprocess.run(command, env=os.environ | variables, check=True)
    one, two = map(contents, places)
    assert len(one) == 14 * 4 and one.keys() == two.keys()
    assert [path for path in one if one[path] != two[path]] == []
    assert not any(str(tmp_path).encode() in content for content in one.values())


@pytest.mark.parametrize("strategy", ["mixture", "fusion"])
@pytest.mark.parametrize("dora", [False, True])
def test_what_is_exported_is_what_is_used(
    strategy: str, dora: bool, make_adapter: MakeAdapter, read: ReadAdapter, base: BaseModel
) -> None:
    """Against the change of weights that evaluation folds in, in single precision."""
    members = [(read(make_adapter(1, use_dora=dora)), 0.7), (read(make_adapter(2, alpha=3, use_dora=dora)), -0.4)]
    found, used = delta_of(strategy, members), merged_delta(strategy, members)
    assert found.keys() == used.keys() and {value.dtype for value in found.values()} == {torch.float64}
    for name, value in used.items():
        torch.testing.assert_close(found[name].float(), value, rtol=1e-4, atol=1e-6)
