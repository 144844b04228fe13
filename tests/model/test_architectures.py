"""docs/architectures.md is what examples/architectures says; a few of each kind are tried again."""

from __future__ import annotations

import importlib.util
import warnings
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [line.strip("|").split("|") for line in (ROOT / "docs" / "architectures.md").read_text().splitlines()[1:]]


@pytest.fixture(scope="module")
def script() -> Any:
    """examples/architectures as a module."""
    loader = SourceFileLoader("architectures", str(ROOT / "examples" / "architectures"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:  # dataclasses look their module up; nothing is left beside the script
        patch.setattr("sys.dont_write_bytecode", True)
        patch.setitem(__import__("sys").modules, loader.name, module)
        loader.exec_module(module)
        yield module


@pytest.mark.parametrize(
    "name", ["ViT-B-32", "RN50", "convnext_tiny", "vit_medium_patch16_gap_256", "roberta-ViT-B-32"]
)
def test_a_row_of_the_table_comes_out_again(script: Any, name: str) -> None:
    told = [tuple(cell.strip() for cell in row) for row in ROWS if row[0].strip() == name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert told == [script.try_out(name).cells]


def test_what_a_hospital_would_choose_is_there() -> None:
    bases = {row[0].strip(): (row[4].strip(), row[5].strip()) for row in ROWS if len(row) == 6}
    for name in ("ViT-B-16", "ViT-B-32", "ViT-L-14", "ViT-B-16-SigLIP", "ViT-SO400M-14-SigLIP-384", "EVA02-L-14"):
        assert bases[name] == ("yes", "yes"), name
