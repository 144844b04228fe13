"""Results of long stages, kept on disk under what they were made from, so that a run can be continued.

A stage's key is a digest over its name, its settings, the base and the images that went in: the same inputs
are the same file, and any change makes a new one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

Tensors = Mapping[str, Tensor]
Notes = Mapping[str, Any]


def keep(folder: Path, stage: str, inputs: object, make: Callable[[], tuple[Tensors, Notes]]) -> tuple[Tensors, Notes]:
    """The tensors and notes (JSON values) of a stage: read where they were made before, made and written if not."""
    text = json.dumps([stage, inputs], sort_keys=True, default=str)
    stem = folder / f"{stage}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    tensors_file, notes_file = stem.with_suffix(".safetensors"), stem.with_suffix(".json")
    if notes_file.is_file() and tensors_file.is_file():
        return load(tensors_file.read_bytes()), json.loads(notes_file.read_text(encoding="utf-8"))["notes"]
    tensors, notes = make()
    folder.mkdir(parents=True, exist_ok=True)
    _replace(tensors_file, save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}))
    record = {"stage": stage, "inputs": inputs, "notes": dict(notes)}
    _replace(notes_file, (json.dumps(record, indent=1, default=str) + "\n").encode())
    return tensors, json.loads(json.dumps(dict(notes), default=str))


def _replace(path: Path, data: bytes) -> None:
    """Write whole or not at all: an interrupted run must not leave half a result. The notes file comes last."""
    partial = path.with_suffix(path.suffix + f".{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)
