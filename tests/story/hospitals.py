"""Hospitals for the stories: a tiny base, contributions written without git forge, and repositories to copy.

The base has random weights; the adapters are fitted to their distilled images in a few steps, so that the
coefficients of a merge have something to find.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from histories.forge_server import forge_server
from safetensors.numpy import save

from forge import cli
from forge.clone import setup as clone_setup

if TYPE_CHECKING:
    from forge.model.base import BaseModel

VOCABULARY = Path(cli.__file__).parent / "model" / "embedded" / "vocabulary.bpe"
LABELS = {
    "breast": ("benign breast tissues", "malignant breast tumors"),
    "colon": ("negative colon tumor", "positive colon tumor"),
    "lung": ("benign lung tissues", "lung adenocarcinomas", "lung squamous cell carcinomas"),
}
NAMES = tuple(LABELS)
SEEDS = {name: number for number, name in enumerate(NAMES, 1)}
EVALUATIONS = 4
PAPER = ("--settings", "paper")
MODULES = (
    *(f"trunk.transformer.resblocks.{layer}.attn.{part}_proj" for layer in (0, 1) for part in "qv"),
    "projection",
)
WIDTH = 64
ITEM = "forge-item.json"
PEFT_CONFIG = {
    "peft_type": "LORA",
    "base_model_name_or_path": None,
    "bias": "none",
    "inference_mode": True,
    "lora_dropout": 0.1,
    "target_modules": r"trunk\.transformer\.resblocks\.\d+\.attn\.[qv]_proj|projection",
}

Arrays = Mapping[str, np.ndarray[Any, Any]]
Merged = Callable[..., Path]


@dataclass(frozen=True)
class Said:
    """How `git forge` ended and what it said."""

    code: int
    out: str
    err: str


def forge(top: Path, *args: str | Path) -> Said:
    """`git forge ARGS` in this process: what a process would do, without loading torch once more."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(top), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.run([str(arg) for arg in args])
    return Said(code, out.getvalue(), err.getvalue())


def forge_ok(top: Path, *args: str | Path) -> Said:
    """As `forge`; it must succeed."""
    said = forge(top, *args)
    assert said.code == 0, said.err + said.out
    return said


def git(top: Path, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`git ARGS`, whatever its exit code; never an editor."""
    return subprocess.run(
        ["git", *args], cwd=top, env=os.environ | variables, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def git_ok(top: Path, *args: str, **variables: str) -> str:
    """As `git`; it must succeed. Its standard output, stripped."""
    done = git(top, *args, **variables)
    assert done.returncode == 0, f"git {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def make_base(folder: Path, seed: int = 0) -> Path:
    """An open_clip folder with random weights: image 32, patch 8, width 64, two layers, 64 joint dimensions."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    vision = {"image_size": 32, "patch_size": 8, "width": WIDTH, "layers": 2, "head_width": 32}
    text: dict[str, Any] = {"context_length": 32, "vocab_size": 1378, "width": 32, "heads": 2, "layers": 1}
    shutil.copyfile(VOCABULARY, folder / "vocabulary.bpe")
    text["tokenizer_kwargs"] = {"bpe_path": "vocabulary.bpe"}
    config = {"embed_dim": WIDTH, "vision_cfg": vision, "text_cfg": text}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        plain = {**text, "tokenizer_kwargs": {}}
        model = open_clip.model.CLIP(WIDTH, open_clip.model.CLIPVisionCfg(**vision), open_clip.CLIPTextCfg(**plain))
    document = {"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    # In this user's settings, so that every clone may use it; in a real one each says where it keeps the base.
    git_ok(folder, "config", "--global", "--add", "forge.base", str(folder))
    return folder


def distilled_arrays(classes: int, seed: int, per_class: int = 4) -> dict[str, np.ndarray[Any, Any]]:
    """Images around one coloured pattern a class, as git forge stores them."""
    random = np.random.default_rng(seed)
    patterns = random.integers(60, 196, size=(classes, 3, 8, 8)).repeat(4, axis=2).repeat(4, axis=3)
    labels = np.arange(classes).repeat(per_class)
    noise = random.integers(-60, 60, size=(len(labels), 3, 32, 32))
    return {
        "images": (patterns[labels] + noise).clip(0, 255).astype(np.uint8),
        "labels": labels.astype(np.int64),
        "offset": np.zeros(3, np.float32),
        "scale": np.full(3, 1 / 255, np.float32),
    }


def fitted_adapter(base: BaseModel, arrays: Arrays, labels: Sequence[str], seed: int) -> dict[str, Any]:
    """A LoRA of rank 16 that tells these images apart; PEFT's tensors as arrays."""
    import torch

    from forge.model.training import fit_on_images

    pixels = base.normalise(torch.from_numpy(arrays["images"]))
    targets = torch.from_numpy(arrays["labels"])
    found = fit_on_images(base, pixels, targets, tuple(labels), steps=25, learning_rate=4e-3, seed=seed)
    return {name: value.numpy() for name, value in found.items()}


def random_adapter(seed: int, rank: int = 16) -> dict[str, np.ndarray[Any, Any]]:
    """A LoRA with random factors."""
    random = np.random.default_rng(seed)
    tensors = {}
    for module in MODULES:
        key = f"base_model.model.{module}"
        tensors[f"{key}.lora_A.weight"] = (random.normal(size=(rank, WIDTH)) / 8).astype(np.float32)
        tensors[f"{key}.lora_B.weight"] = (random.normal(size=(WIDTH, rank)) / 8).astype(np.float32)
    return tensors


def distilled_bytes(arrays: Arrays, task: str, labels: Sequence[str]) -> bytes:
    return save(dict(arrays), {"task": task, "labels": json.dumps(list(labels)), "method": "by hand"})


def adapter_config(rank: int = 16, **changes: object) -> bytes:
    return json.dumps({**PEFT_CONFIG, "r": rank, "lora_alpha": rank, **changes}, indent=2).encode() + b"\n"


def card_text(task: str, labels: Sequence[str], reference: str, fingerprint: str) -> bytes:
    quoted = ", ".join(json.dumps(label) for label in labels)
    return (
        f"[task]\nname = {json.dumps(task)}\nlabels = [{quoted}]\n\n"
        f"[base]\nreference = {json.dumps(reference)}\nfingerprint = {json.dumps(fingerprint)}\n"
    ).encode()


def contribution_files(
    base: BaseModel,
    task: str,
    *,
    labels: Sequence[str] = (),
    seed: int = 0,
    adapter: Arrays | None = None,
    rank: int = 16,
) -> dict[str, bytes]:
    """The four files of contributions/NAME, written with json, safetensors and plain text alone."""
    labels = labels or LABELS[task]
    seed = seed or SEEDS[task]
    arrays = distilled_arrays(len(labels), seed)
    if adapter is None:
        adapter = fitted_adapter(base, arrays, labels, seed) if rank == 16 else random_adapter(seed, rank)
    return {
        "adapter_config.json": adapter_config(rank),
        "adapter_model.safetensors": save(dict(adapter), {"format": "pt"}),
        "distilled.safetensors": distilled_bytes(arrays, task, labels),
        "card.toml": card_text(task, labels, base.reference, base.fingerprint),
    }


def write_contribution(top: Path, name: str, files: Mapping[str, bytes]) -> Path:
    folder = top / "contributions" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return folder


@functools.cache
def quick_program(base_folder: Path) -> Path:
    """A git-forge that has loaded torch and the base already, until this process ends; see histories.forge_server."""
    servers = contextlib.ExitStack()
    atexit.register(servers.close)
    return servers.enter_context(forge_server(base_folder)) / "git-forge"


@contextlib.contextmanager
def set_up_with(program: Path) -> Iterator[None]:
    """In the block, clones are set up with this program, and the merge of a review starts it."""
    quoted = shlex.quote(str(program))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clone_setup, "program", lambda: quoted)
        yield


def start_model(
    top: Path, base_folder: Path, strategy: str = "mixture", *options: str, program: Path | None = None
) -> Path:
    """A model repository with four evaluations a search, nothing contributed yet; git trusts times when copied.

    options: of git forge init; the paper's settings, with which coefficients follow its recursion, if none. program:
    what git starts as drivers and hooks; the quick one if not given.
    """
    top.mkdir(parents=True)
    git_ok(top, "init", "--quiet", "--initial-branch=main")
    # Copies of this folder are the same to git, so that it need not hash every file of every test again.
    git_ok(top, "config", "core.checkStat", "minimal")
    git_ok(top, "config", "core.trustctime", "false")
    with set_up_with(program or quick_program(base_folder)):
        forge_ok(top, "init", "--base", base_folder, "--strategy", strategy, *(options or PAPER))
    change_settings(top, "evaluations = 40", f"evaluations = {EVALUATIONS}")
    # A search this short, on eight images and sometimes with random adapters, may lose what no ordinary merge does.
    change_settings(top, "gate = 0.2", "gate = 1.0")
    git_ok(top, "commit", "--quiet", "-am", "Search quickly")
    return top


def change_settings(top: Path, old: str, new: str) -> None:
    """Replace a line of forge.toml."""
    path = top / "forge.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def contribute(top: Path, name: str, files: Mapping[str, bytes], start: str = "main") -> None:
    """A branch of the contribution's name with the contribution on it."""
    git_ok(top, "switch", "--quiet", "-c", name, start)
    write_contribution(top, name, files)
    forge_ok(top, "commit")
    git_ok(top, "switch", "--quiet", start)


def copy_repository(top: Path, target: Path) -> Path:
    shutil.copytree(top, target, symlinks=True)
    return target


def merged_in_order(folders: pytest.TempPathFactory, hospitals: Path) -> Merged:
    """merged("lung", "colon"): main of `hospitals` after plain `git merge` of these, in this order; made once.

    Not to be changed: copy it.
    """
    made: dict[tuple[str, ...], Path] = {(): hospitals}

    def after(*order: str) -> Path:
        if order not in made:
            top = copy_repository(after(*order[:-1]), folders.mktemp("-".join(order)) / "model")
            git_ok(top, "merge", "--quiet", "--no-edit", order[-1])
            made[order] = top
        return made[order]

    return after


def item(top: Path, rev: str | None = None) -> dict[str, Any]:
    """The forge item of a revision (None: of the work tree) by plain json: nothing of git forge reads it."""
    text = (top / ITEM).read_text() if rev is None else git_ok(top, "show", f"{rev}:{ITEM}")
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def coefficients(of: Mapping[str, Any]) -> dict[str, float]:
    return {name: entry["coefficient"] for name, entry in of["contributions"].items()}


def load_tiny_base(folder: Path) -> BaseModel:
    import torch

    from forge.model.base import load_base

    torch.set_num_threads(1)
    return load_base(str(folder))
