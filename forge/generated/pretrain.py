"""Trains the embedded base from nothing on generated captioned images: `python -m forge.generated.pretrain --out DIR`.

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
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from forge.generated.captioned import captioned_images

EMBEDDED: Final = Path(__file__).parent.parent / "model" / "embedded"
CONFIG_FILE: Final = "open_clip_config.json"
WEIGHTS_FILE: Final = "open_clip_model.safetensors"

STEPS: Final = 1200
IMAGES: Final = 60_000
BATCH: Final = 256
LEARNING_RATE: Final = 1.5e-3
WEIGHT_DECAY: Final = 0.05
WARM_UP: Final = 100
PATCH_DROPOUT: Final = 0.5
DROPOUT_SHARE: Final = 0.75  # of the steps
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


def rate_at(step: int, steps: int) -> float:
    """The learning rate: a short linear warm-up, then half a cosine down to zero."""
    if step < WARM_UP:
        return LEARNING_RATE * (step + 1) / WARM_UP
    return LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP)))


def _optimizer(model: nn.Module) -> torch.optim.AdamW:
    """AdamW that decays matrices only."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98))


def pretrain(
    config: dict[str, Any], folder: Path, steps: int, images: int, seed: int, snapshot: Path | None = None
) -> nn.Module:
    """Train from nothing; progress goes to stderr, the weights of every 200th step into `snapshot`."""
    from open_clip.transformer import PatchDropout

    torch.manual_seed(seed)
    built, tokenizer = build(config, folder)
    model: Any = built
    data = captioned_images(seed, images)
    distinct, caption_of = np.unique(np.array(data.captions), return_inverse=True)
    tokens, numbers = tokenizer(distinct.tolist()), torch.from_numpy(caption_of)
    pixels = torch.from_numpy(data.images)
    print(f"{images} images, {len(distinct)} distinct captions, {steps} steps", file=sys.stderr, flush=True)
    optimizer = _optimizer(model)
    order = torch.randperm(images)
    model.visual.patch_dropout = PatchDropout(PATCH_DROPOUT)
    model.train()
    started, running, used = time.monotonic(), 0.0, 0
    for step in range(steps):
        if step == int(steps * DROPOUT_SHARE):
            model.visual.patch_dropout = nn.Identity()
        if used + BATCH > images:
            order, used = torch.randperm(images), 0
        batch = order[used : used + BATCH]
        used += BATCH
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps)
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
        if step % 50 == 49 or step == steps - 1:
            spent = time.monotonic() - started
            left = spent / (step + 1) * (steps - step - 1)
            report = f"step {step + 1}/{steps}  loss {running:.3f}  {spent:.0f} s, {left:.0f} s to go"
            print(report, file=sys.stderr, flush=True)
        if snapshot is not None and step % 200 == 199:
            save(built, snapshot)
    model.visual.patch_dropout = nn.Identity()
    return built.eval()


def save(model: nn.Module, path: Path) -> None:
    """Write the weights as fp16 safetensors without any training record."""
    from safetensors.torch import save_file

    state = {name: value.detach().to(torch.float16).contiguous() for name, value in model.state_dict().items()}
    save_file(state, path, metadata={"format": "pt"})


def main() -> None:
    """Command line: train and write config, BPE file and weights into a folder."""
    parser = argparse.ArgumentParser(description="Train the embedded base on generated captioned images.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the finished base")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    config = json.loads((EMBEDDED / CONFIG_FILE).read_text())
    chosen.out.mkdir(parents=True, exist_ok=True)
    weights = chosen.out / WEIGHTS_FILE
    model = pretrain(config, EMBEDDED, chosen.steps, chosen.images, chosen.seed, weights)
    vocabulary = config["model_cfg"]["text_cfg"]["tokenizer_kwargs"]["bpe_path"]
    for name in (CONFIG_FILE, vocabulary):
        (chosen.out / name).write_bytes((EMBEDDED / name).read_bytes())
    save(model, weights)
    print(weights)


if __name__ == "__main__":
    main()
