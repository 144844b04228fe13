"""What storing one contribution of a ViT-B/16 costs: git forge, git-lfs and plain git in turn, in one run.

    python -m examples.bench.storing

makes the contribution (an fp32 adapter of rank 16 on q and v of 12 layers and the projection, 60 generated images of
224 pixels: 11.5 MB) and stores it in a model repository, several rounds, each in repositories of its own: `git add`,
`git commit`, `git status` on files that were touched, `git push` to a bare repository by file://, and `git clone` of
that. Printed are, for each step, medians of CPU seconds of the whole process tree, both ends of a push and a clone
included, with the spread of their sum; then seconds by the clock, and bytes. git-lfs transfers by the agent that it
brings for file://, which copies files.

Nothing is set for anybody that the tool's own set-up does not set. "git forge, server" is a bare repository in which
`git forge install --server` was run, which checks every push; the others are bare repositories as `git init` makes
them. git-theta is not among them: it was not tried.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from subprocess import run

import numpy as np

from examples.bench.consortium import BASE, blob_id
from examples.bench.scale import Runs, measure
from examples.generated.tissue import Tissue, absorb, make_stain
from forge.formats.safetensors import to_bytes
from forge.recipe.card import Card
from forge.recipe.card import to_toml as card_to_toml
from forge.recipe.item import Entry, ForgeItem
from forge.recipe.item_text import to_json
from forge.recipe.layout import (
    ADAPTER_FILE,
    ATTRIBUTES_FILE,
    CARD_FILE,
    CONFIG_FILE,
    DISTILLED_FILE,
    ITEM_FILE,
    SETTINGS_FILE,
    path_of,
)
from forge.recipe.settings import Settings
from forge.recipe.settings import to_toml as settings_to_toml
from forge.repo.storage import attribute_lines
from forge.text import aligned

NAME = "breast"
LABELS = ("no finding", "a finding")
IMAGES = 60
SIDE = 224  # pixels
WIDTH, JOINT, LAYERS, RANK = 768, 512, 12, 16  # of ViT-B/16, and of its adapter
_PATCH = 32  # pixels: what examples.generated paints
_FORGE = shlex.quote(str(Path(sys.executable).with_name("git-forge")))


@dataclass(frozen=True)
class Tool:
    """A way to store a model: the attributes of its files, how a clone and the bare repository are set up."""

    name: str
    attributes: tuple[str, ...] = ()
    of_clone: str = "true"
    of_server: str = "true"


TOOLS = (
    Tool("git-lfs", attribute_lines("lfs"), "git lfs install --local"),
    Tool("plain git", tuple(f"{line.split()[0]} -text" for line in attribute_lines() if "filter=" in line)),
    Tool("git forge", attribute_lines(), f"{_FORGE} install"),
    Tool("git forge, server", attribute_lines(), f"{_FORGE} install", f"{_FORGE} install --server"),
)
STEPS = {
    "add": ("clone", "git add ."),
    "commit": ("clone", "git commit --quiet --message='Add a contribution'"),
    "status": ("clone", "git status"),
    "push": ("clone", "git push --quiet origin main"),
    "clone": (".", "git clone --quiet file://{top}/origin.git another"),
}


@dataclass
class Column:
    """What one tool took: runs by step, and bytes by what they are."""

    steps: dict[str, Runs] = field(default_factory=lambda: {step: Runs() for step in STEPS})
    sizes: dict[str, int] = field(default_factory=dict)

    def sums(self, what: str) -> list[float]:
        """The sum over all steps of each round."""
        return [sum(each) for each in zip(*(getattr(runs, what) for runs in self.steps.values()), strict=True)]


def make_contribution(seed: int = 0, images: int = IMAGES) -> dict[str, bytes]:
    """The files of one contribution by name."""
    rng = np.random.default_rng(seed)
    arrays = {
        "images": _images(rng, images),
        "labels": np.arange(images, dtype=np.int64) % len(LABELS),
        "offset": np.zeros(3, np.float32),
        "scale": np.full(3, 1 / 255, np.float32),
    }
    config = {
        "peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "bias": "none",
        "target_modules": ["q_proj", "v_proj", "proj"],
    }  # fmt: skip
    return {
        ADAPTER_FILE: to_bytes(_factors(rng)),
        CONFIG_FILE: json.dumps(config, indent=2, sort_keys=True).encode() + b"\n",
        DISTILLED_FILE: to_bytes(arrays, {"task": NAME, "labels": json.dumps(LABELS), "method": "dm"}),
        CARD_FILE: card_to_toml(Card(NAME, LABELS, BASE, data={"images": 5000})).encode(),
    }


def _factors(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A and B of each adapted module, as they are after training: A drawn by PEFT, B small."""
    shapes = {
        f"transformer.resblocks.{layer}.attn.{name}": (WIDTH, WIDTH)
        for layer in range(LAYERS)
        for name in ("q_proj", "v_proj")
    }
    factors = {}
    for module, (inputs, outputs) in (shapes | {"proj": (WIDTH, JOINT)}).items():
        bound = 1 / np.sqrt(inputs)
        a = rng.uniform(-bound, bound, (RANK, inputs))
        factors[f"base_model.model.{module}.lora_A.weight"] = a.astype(np.float32)
        b = rng.standard_normal((outputs, RANK)) * 0.01
        factors[f"base_model.model.{module}.lora_B.weight"] = b.astype(np.float32)
    return factors


def _images(rng: np.random.Generator, count: int) -> np.ndarray:
    """uint8 [count, 3, 224, 224]: generated tissue, patch beside patch, with the noise of a camera."""
    across = SIDE // _PATCH
    patches = count * across**2
    latents = [np.repeat(rng.random(count, dtype=np.float32), across**2) for _ in range(8)]
    painted = absorb(rng, Tissue(*latents), make_stain(rng, patches, jitter=0.0), noise=0.02)
    pixels = np.clip(painted * 255 + 0.5, 0, 255).astype(np.uint8)
    mosaic = pixels.reshape(count, across, across, _PATCH, _PATCH, 3).transpose(0, 5, 1, 3, 2, 4)
    return np.ascontiguousarray(mosaic.reshape(count, 3, SIDE, SIDE))


def run_round(tool: Tool, contribution: Mapping[str, bytes], top: Path, column: Column) -> None:
    """Store the contribution once in new repositories below `top`, and measure each step."""
    home = top / "home"
    home.mkdir(parents=True)
    variables = {
        "HOME": str(home), "XDG_CONFIG_HOME": str(home), "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0",
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    }  # fmt: skip

    def untimed(command: str) -> None:
        measure(command, top, variables, Runs())

    untimed("git config --global user.name Ada && git config --global user.email ada@example.org")
    untimed("git init --quiet --bare --initial-branch=main origin.git")
    if tool.name == "git-lfs":
        untimed("git lfs install --skip-repo >/dev/null")
    untimed(f"git clone --quiet file://{top}/origin.git clone 2>/dev/null && git -C clone switch --quiet -C main")
    clone = top / "clone"
    (clone / SETTINGS_FILE).write_text(settings_to_toml(Settings(BASE)))
    (clone / ATTRIBUTES_FILE).write_text("".join(f"{line}\n" for line in tool.attributes))
    (clone / ITEM_FILE).write_text(to_json(ForgeItem(BASE, "mixture")))
    untimed("cd clone && git add . && git commit --quiet --message='A model' && git push --quiet origin main")
    untimed(f"cd clone && {tool.of_clone} >/dev/null")
    untimed(f"cd origin.git && {tool.of_server} >/dev/null")

    adapter, config, distilled = (blob_id(contribution[file]) for file in (ADAPTER_FILE, CONFIG_FILE, DISTILLED_FILE))
    entry = Entry(NAME, adapter, config, distilled, 1.0)
    for file, content in contribution.items():
        path = clone / path_of(NAME, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (1_700_000_000, 1_700_000_000))  # git looks again at what is as young as its index
    (clone / ITEM_FILE).write_text(to_json(ForgeItem(BASE, "mixture", (entry,))))
    for step, (folder, command) in STEPS.items():
        if step == "status":
            for file in contribution:
                os.utime(clone / path_of(NAME, file), (1_800_000_000, 1_800_000_000))
        if step == "push":
            column.sizes["sent"] = _sent(clone, variables) + _size(clone / ".git" / "lfs" / "objects")
        measure(command.format(top=top), top / folder, variables, column.steps[step])
    for file, content in contribution.items():
        if (top / "another" / path_of(NAME, file)).read_bytes() != content:
            raise RuntimeError(f"{tool.name}: {file} did not arrive as it was")
    for name, folder in (("origin", "origin.git"), ("clone", "clone/.git"), ("another", "another/.git")):
        column.sizes[name] = _size(top / folder)


def _sent(clone: Path, variables: Mapping[str, str]) -> int:
    """The bytes of the pack that the next push sends."""
    command = "git rev-list --objects main --not origin/main | git pack-objects --quiet --delta-base-offset --stdout"
    return len(run(["sh", "-c", command], cwd=clone, env={**os.environ, **variables}, capture_output=True).stdout)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def table(columns: Mapping[str, Column]) -> str:
    """All of it as text: steps by tools, with the ratio of each sum to the first tool's."""
    names = list(columns)
    rows = []
    for what, title in (("cpu", "CPU s"), ("wall", "s by the clock")):
        sums = {name: columns[name].sums(what) for name in names}
        for step in STEPS:
            rows.append([step, title, *(f"{median(getattr(columns[name].steps[step], what)):.3f}" for name in names)])
        rows.append(["all", title, *(f"{median(sums[name]):.3f}" for name in names)])
        spread = (f"{min(sums[name]):.3f}-{max(sums[name]):.3f}" for name in names)
        rows.append(["lowest-highest", title, *spread])
        # Round by round: what slows the machine down slows neighbours down.
        ratios = (
            f"{median(one / other for one, other in zip(sums[name], sums[names[0]], strict=True)):.2f}"
            for name in names
        )
        rows.append([f"ratio to {names[0]}", title, *ratios])
    for size, title in (
        ("sent", "sent"), ("origin", "in the bare repository"), ("clone", "in .git of who pushed"),
        ("another", "in .git of a clone"),
    ):  # fmt: skip
        rows.append([title, "MB", *(f"{columns[name].sizes[size] / 1e6:.2f}" for name in names)])
    return aligned(["Step", "", *names], rows, right=range(2, len(names) + 2))


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--only", nargs="+", choices=[tool.name for tool in TOOLS], help="these tools alone")
    options = parser.parse_args(arguments)
    tools = [tool for tool in TOOLS if not options.only or tool.name in options.only]
    contribution = make_contribution(images=options.images)
    columns = {tool.name: Column() for tool in tools}
    with tempfile.TemporaryDirectory(prefix="git-forge-storing-") as scratch:
        for turn in range(-1, options.rounds):  # the first one compiles modules and warms the disk
            for tool in tools:
                top = Path(scratch, "round")
                run_round(tool, contribution, top, Column() if turn < 0 else columns[tool.name])
                shutil.rmtree(top)
            print(f"round {turn + 1} of {options.rounds}", file=sys.stderr)
    print(table(columns))


if __name__ == "__main__":
    main()
