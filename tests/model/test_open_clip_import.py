"""What git forge leaves out of importing open_clip; in processes of their own, because an import happens once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

IMAGES = """
import io, json, sys
import torch
from PIL import Image
from forge.data.listing import ReadOptions
from forge.model.base import load_base
from forge.model.images import Reader
base = load_base(sys.argv[2])
picture = Image.new("RGB", (70, 50), (90, 20, 160))
picture.paste((10, 240, 30), (5, 8, 40, 30))
pixels = Reader(base, ReadOptions()).image(picture, "a picture")[None]
with torch.no_grad():
    answer = base.tower(base.prepare(pixels)) @ base.text_embeddings(("a", "b")).T
print(json.dumps({
    "fingerprint": base.fingerprint,
    "pixels": pixels.double().sum().item(),
    "answer": answer.flatten().tolist(),
    "loaded": [name for name in ("transformers", "timm", "torchvision", "torch._dynamo") if name in sys.modules],
}))
"""


def run(as_program: bool, code: str, *arguments: str) -> Any:
    start = "from forge.program import is_the_program\nis_the_program()\n" if as_program else ""
    answer = subprocess.run([sys.executable, "-c", start + code, "-", *arguments], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_the_program_loads_a_plain_base_without_the_rest_and_reads_pictures_alike() -> None:
    lean, whole = run(True, IMAGES, "embedded"), run(False, IMAGES, "embedded")
    assert lean.pop("loaded") == []
    assert {"transformers", "timm", "torchvision"} <= set(whole.pop("loaded"))
    assert lean == whole


def test_what_was_left_out_can_be_imported_afterwards() -> None:
    code = """
import json
from forge.model.base import load_base
load_base("embedded")
import timm, torchvision, transformers, peft
from torchvision.ops import nms
print(json.dumps([hasattr(torchvision, "models"), hasattr(timm, "create_model"), hasattr(peft, "get_peft_model")]))
"""
    assert run(True, code) == [True, True, True]


def test_a_base_that_needs_timm_gets_open_clip_whole(tmp_path: Path) -> None:
    code = """
import json, sys
from pathlib import Path
from forge.model.base import load_base
load_base("embedded")
import open_clip
lean = open_clip.hf_model.transformers is None
from safetensors.torch import save_file
from forge.model.open_clip_import import import_whole_open_clip
import_whole_open_clip({"vision_cfg": {"timm_model_name": "vit_tiny_patch16_224"}, "text_cfg": {}})
import open_clip
name, file = "vit_medium_patch16_gap_256", Path(sys.argv[2]) / "weights.safetensors"
clip = open_clip.create_model(name, load_weights=False)
save_file({key: value.contiguous() for key, value in clip.state_dict().items()}, file)
base = load_base(f"{name}={file}")
print(json.dumps([lean, type(base.tower.trunk).__name__]))
"""
    assert run(True, code, str(tmp_path)) == [True, "TimmModel"]


@pytest.mark.parametrize("as_program", [True, False])
def test_no_weight_of_a_base_is_left_to_chance(as_program: bool) -> None:
    code = """
import hashlib, json, torch
from forge.model.base import load_base
state = torch.random.get_rng_state()
base = load_base("embedded")
weights = {**base.clip.state_dict(), **base.tower.state_dict()}
digest = hashlib.sha256(b"".join(weights[name].contiguous().numpy().tobytes() for name in sorted(weights)))
print(json.dumps([digest.hexdigest(), bool((torch.random.get_rng_state() == state).all())]))
"""
    first, again = run(as_program, code), run(as_program, code)
    assert first == again
    assert first[1]
