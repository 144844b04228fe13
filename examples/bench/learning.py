"""What training and measuring cost: git forge beside the plain way of doing the same, in turn, in one process.

    python -m examples.bench.learning [--base ViT-B-16=FILE.safetensors --images 32]

Training is held against a plain loop over the same base with stock PEFT and torch's own dropout, a whole batch at once;
evaluating against the bare tower as open_clip has it, 512 images of 32 pixels at once. The embedded base or another,
generated tissue at its size. Printed are CPU seconds (medians of the rounds), the ratio, and what each reaches on test
images.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from examples.bench.plain_way import every_token, generated_images, timed
from forge.model.adapters import Adapter, lora_config, plain_config, plain_delta, read_adapter
from forge.model.base import BaseModel, load_base
from forge.model.scoring import TaskImages, evaluate
from forge.model.training import default_settings, train_adapter
from forge.recipe.catalogue import AUGMENT_NONE
from forge.text import aligned

TASK, EPOCHS = "breast", 3
AT_ONCE = 512 * 32 * 32  # pixels of the bare tower's batch


def plain_training(base: BaseModel, train: TaskImages, validation: TaskImages) -> Adapter:
    """A LoRA by the loop that somebody would write: git forge's settings for this base, and its schedule."""
    from peft import get_peft_model, get_peft_model_state_dict

    settings = default_settings("small")
    torch.manual_seed(0)
    config = lora_config(rank=16, alpha=16, dropout=0.1, modules=base.tower.plugin_modules, dora=False)
    model = get_peft_model(base.tower, config)
    try:
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
        steps = EPOCHS * -(-len(train.targets) // settings.batch)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        texts = base.text_embeddings(train.labels)
        for _ in range(EPOCHS):
            model.train()
            for index in torch.split(torch.randperm(len(train.targets)), settings.batch):
                similarity = F.normalize(model(base.normalise(train.pixels[index])), dim=-1) @ texts.T
                loss = F.cross_entropy(base.logit_scale * similarity, train.targets[index])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                scheduler.step()
            model.eval()
            _bare(base, validation)
        tensors = {
            key: value.detach().clone()
            for key, value in get_peft_model_state_dict(model, save_embedding_layers=False).items()
        }
    finally:
        model.unload()
        base.tower.eval().requires_grad_(False)
    return read_adapter(plain_config(config), tensors, base.tower, source="the plain loop")


def our_training(base: BaseModel, train: TaskImages, validation: TaskImages) -> Adapter:
    """The same by git forge."""
    trained = train_adapter(
        base, train, validation, replace(default_settings("small"), epochs=EPOCHS, steps=0, augment=AUGMENT_NONE)
    )
    return read_adapter(trained.config, trained.tensors, base.tower, source="git forge")


def _bare(base: BaseModel, task: TaskImages) -> Tensor:
    """Logits, AT_ONCE pixels at once."""
    size = max(32, AT_ONCE // (base.image_size[0] * base.image_size[1]))
    with torch.no_grad():
        embedded = torch.cat([base.tower(base.normalise(part)) for part in torch.split(task.pixels, size)])
        return base.logit_scale * F.normalize(embedded, dim=-1) @ base.text_embeddings(task.labels).T


def _images(base: BaseModel, split: str, count: int) -> TaskImages:
    images = generated_images(TASK, split, count)
    if tuple(images.pixels.shape[-2:]) == base.image_size:
        return images
    pixels = F.interpolate(images.pixels.float(), base.image_size, mode="bilinear").round().to(torch.uint8)
    return replace(images, pixels=pixels)


def main() -> None:
    """Parse the command line, run in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--base", default="embedded", help="as for git forge init")
    parser.add_argument("--images", type=int, default=512, metavar="N", help="training images; twice as many are tests")
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    base, count = load_base(chosen.base), chosen.images
    counts = {"train": count, "validation": count // 4, "test": 2 * count}
    train, validation, test = (_images(base, split, number) for split, number in counts.items())
    seconds: dict[tuple[str, str], list[float]] = {
        (work, way): [] for work in ("train", "evaluate") for way in ("plain", "git forge")
    }
    reached = {}
    for turn in range(chosen.rounds):
        with every_token(base):
            adapter = timed(lambda: plain_training(base, train, validation), seconds["train", "plain"])
        reached["train", "plain"] = evaluate(base, plain_delta(adapter), test).accuracy
        adapter = timed(lambda: our_training(base, train, validation), seconds["train", "git forge"])
        reached["train", "git forge"] = evaluate(base, plain_delta(adapter), test).accuracy
        with every_token(base):
            said = timed(lambda: _bare(base, test), seconds["evaluate", "plain"])
        reached["evaluate", "plain"] = float((said.argmax(-1) == test.targets).float().mean())
        timed(lambda: evaluate(base, {}, test), seconds["evaluate", "git forge"])
        reached["evaluate", "git forge"] = evaluate(base, {}, test).accuracy
        print(f"round {turn + 1} of {chosen.rounds}", file=sys.stderr)
    rows = [
        [work, way, f"{median(runs):.2f}", f"{min(runs):.2f}-{max(runs):.2f}",
         f"{median(seconds[work, 'plain']) / median(runs):.2f}", f"{reached[work, way]:.3f}"]
        for (work, way), runs in seconds.items()
    ]  # fmt: skip
    print(aligned(["work", "way", "CPU s", "lowest-highest", "x faster", "accuracy"], rows, {2, 4, 5}))


if __name__ == "__main__":
    main()
