"""A contribution in a work tree, written by hand."""

from __future__ import annotations

from pathlib import Path

from sample_models import BASE, LABELS, adapter, adapter_config, distilled

from forge.recipe.card import Card, to_toml


def contribution_files(name: str, version: int = 1) -> dict[str, bytes]:
    return {
        "adapter_config.json": adapter_config(),
        "adapter_model.safetensors": adapter(version, name=name),
        "distilled.safetensors": distilled(name, LABELS, version),
        "card.toml": to_toml(Card(name, LABELS, BASE)).encode(),
    }


def write_contribution(top: Path, name: str, version: int = 1) -> Path:
    folder = top / "contributions" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in contribution_files(name, version).items():
        (folder / file).write_bytes(content)
    return folder
