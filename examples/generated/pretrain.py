"""Trains the embedded base from nothing on generated captions: `python -m examples.generated.pretrain --out DIR`.

Contrastive training as in CLIP (Radford et al., 2021), with half of the patches dropped for most of it (Li et al.,
2023, "FLIP"). Captions often repeat in a batch, so equal captions count as each other's positives. The schedule
counts steps, never the clock: the same seed, steps, torch and thread count give the same weights.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

import forge
from examples.generated.captioned import GLYPH_MIX, MIX, Mix, captioned_images

EMBEDDED: Final = Path(forge.__file__).parent / "model" / "embedded"
CONFIG_FILE: Final = "open_clip_config.json"
WEIGHTS_FILE: Final = "open_clip_model.safetensors"

WEIGHT_DECAY: Final = 0.05


@dataclass(frozen=True)
class Stage:
    """One stretch of training; it starts from the file that the stage before wrote, with a fresh optimizer."""

    steps: int
    horizon: int  # steps after which the cosine would reach zero
    warm_up: int
    batch: int
    learning_rate: float
    patch_dropout: float
    mix: Mix
    images: int


# Half of the patches are enough to learn colours, forms and tissue from, but not digits: those come second, whole.
STAGES: Final = (
    Stage(600, 1200, 100, 256, 1.5e-3, 0.5, MIX, 60_000),
    Stage(800, 800, 30, 128, 1e-3, 0.0, GLYPH_MIX, 60_000),
)
MOST_LOGIT_SCALE: Final = math.log(100)


def build(config: dict[str, Any], folder: Path) -> tuple[nn.Module, Any]:
    """A fresh open_clip model and tokenizer of a config whose BPE file lies in `folder`."""
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer

    text = config["model_cfg"]["text_cfg"]
    tokenizer = SimpleTokenizer(
        bpe_path=str((folder / text["tokenizer_kwargs"]["bpe_path"]).resolve()), context_length=text["context_length"]
    )
    if tokenizer.vocab_size != text["vocab_size"]:
        raise ValueError(f"the BPE file has {tokenizer.vocab_size} tokens, the config says {text['vocab_size']}")
    model = open_clip.CLIP(**config["model_cfg"])
    return model, tokenizer


def normalised(images: Tensor, preprocess: dict[str, Any]) -> Tensor:
    """uint8 [n, h, w, 3] as float32 [n, 3, h, w] with the config's mean and deviation taken off."""
    mean, std = (torch.tensor(preprocess[key]).view(3, 1, 1) for key in ("mean", "std"))
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std


def encode_captions(model: Any, tokens: Tensor) -> Tensor:
    """Text features [n, d] of tokens [n, context]. The tower is causal, so all after the longest text is cut off."""
    length = int(tokens.argmax(dim=1).max()) + 1
    tokens = tokens[:, :length]
    hidden = model.token_embedding(tokens) + model.positional_embedding[:length]
    hidden = model.transformer(hidden, attn_mask=model.attn_mask[:length, :length])
    ends = hidden[torch.arange(len(tokens)), tokens.argmax(dim=1)]
    return torch.as_tensor(model.ln_final(ends) @ model.text_projection)


def contrastive_loss(images: Tensor, captions: Tensor, caption_of: Tensor, scale: Tensor) -> Tensor:
    """CLIP's loss where images [n, d] share the distinct captions [m, d]; caption_of [n] says which.

    Images choose among the distinct captions; a caption's target is even over all images that carry it.
    """
    logits = scale * images @ captions.T  # [n, m]
    of_images = nn.functional.cross_entropy(logits, caption_of)
    carried = nn.functional.one_hot(caption_of, len(captions)).float()
    share = carried / carried.sum(dim=0, keepdim=True)
    per_caption = -(share * logits.log_softmax(dim=0)).sum(dim=0)
    return (of_images + per_caption.mean()) / 2


def rate_at(step: int, stage: Stage) -> float:
    """The learning rate: a short linear warm-up, then half a cosine towards zero at the stage's horizon."""
    if step < stage.warm_up:
        return stage.learning_rate * (step + 1) / stage.warm_up
    done = (step - stage.warm_up) / max(1, stage.horizon - stage.warm_up)
    return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def _optimizer(model: nn.Module) -> torch.optim.AdamW:
    """AdamW that decays matrices only."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


def train_stage(
    config: dict[str, Any], folder: Path, stage: Stage, seed: int, weights: Path, start: Path | None = None
) -> None:
    """Train one stage, from nothing or from the weights `start`, and write `weights`; progress goes to stderr.

    The weights of every 200th step are written too, so that a look at them is possible meanwhile.
    """
    from open_clip.transformer import PatchDropout
    from safetensors.torch import load_file

    torch.manual_seed(seed)
    built, tokenizer = build(config, folder)
    model: Any = built
    if start is not None:
        model.load_state_dict(load_file(start))
    data = captioned_images(seed, stage.images, stage.mix)
    distinct, caption_of = np.unique(np.array(data.captions), return_inverse=True)
    tokens, numbers = tokenizer(distinct.tolist()), torch.from_numpy(caption_of)
    pixels = torch.from_numpy(data.images)
    print(f"{stage.images} images, {len(distinct)} distinct captions, {stage.steps} steps", file=sys.stderr, flush=True)
    optimizer = _optimizer(model)
    order = torch.randperm(stage.images)
    if stage.patch_dropout > 0:
        model.visual.patch_dropout = PatchDropout(stage.patch_dropout)
    model.train()
    started, running, used = time.monotonic(), 0.0, 0
    for step in range(stage.steps):
        if used + stage.batch > stage.images:
            order, used = torch.randperm(stage.images), 0
        batch = order[used : used + stage.batch]
        used += stage.batch
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, stage)
        said, place = torch.unique(numbers[batch], return_inverse=True)
        seen = nn.functional.normalize(model.visual(normalised(pixels[batch], config["preprocess_cfg"])), dim=-1)
        told = nn.functional.normalize(encode_captions(model, tokens[said]), dim=-1)
        loss = contrastive_loss(seen, told, place, model.logit_scale.exp())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, MOST_LOGIT_SCALE)
        value = float(loss.detach())
        running = value if step == 0 else 0.97 * running + 0.03 * value
        if step % 50 == 49 or step == stage.steps - 1:
            spent = time.monotonic() - started
            left = spent / (step + 1) * (stage.steps - step - 1)
            report = f"step {step + 1}/{stage.steps}  loss {running:.3f}  {spent:.0f} s, {left:.0f} s to go"
            print(report, file=sys.stderr, flush=True)
        if step % 200 == 199 or step == stage.steps - 1:
            save(built, weights)


def save(model: nn.Module, path: Path) -> None:
    """Write the weights as fp16 safetensors without any training record."""
    from safetensors.torch import save_file

    state = {name: value.detach().to(torch.float16).contiguous() for name, value in model.state_dict().items()}
    save_file(state, path, metadata={"format": "pt"})


def main() -> None:
    """Command line: train all stages and write config, BPE file and weights into a folder."""
    parser = argparse.ArgumentParser(description="Train the embedded base on generated captioned images.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the finished base")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--from-stage", type=int, default=0, help="go on from this stage of an earlier run in --out")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    config = json.loads((EMBEDDED / CONFIG_FILE).read_text())
    chosen.out.mkdir(parents=True, exist_ok=True)
    vocabulary = config["model_cfg"]["text_cfg"]["tokenizer_kwargs"]["bpe_path"]
    for name in (CONFIG_FILE, vocabulary):
        (chosen.out / name).write_bytes((EMBEDDED / name).read_bytes())
    for number, stage in enumerate(STAGES):
        weights = chosen.out / (WEIGHTS_FILE if number == len(STAGES) - 1 else f"stage_{number}.safetensors")
        start = chosen.out / f"stage_{number - 1}.safetensors" if number else None
        if number >= chosen.from_stage:
            train_stage(config, EMBEDDED, stage, chosen.seed + number, weights, start)
    print(chosen.out / WEIGHTS_FILE)


if __name__ == "__main__":
    main()
