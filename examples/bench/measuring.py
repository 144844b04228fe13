"""What measuring a model on pictures costs as a whole process: `git forge evaluate` beside a script for the bare model.

    python -m examples.bench.measuring [--base ViT-B-16=FILE.safetensors] [--images 600]

The script is what somebody would write with open_clip alone: create the model with its transforms, read the pictures
one by one, 64 in a batch, print the accuracy. Both read the same folders of generated pictures of 256 pixels (PNG). In
turn, several rounds; printed are CPU and wall seconds (medians), and the ratio. With --base both use that model; the
embedded one otherwise.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from PIL import Image

from examples.generated.tasks import make_task
from forge.text import aligned

SIZE = 256
TASK = "breast"
EMBEDDED = Path(__file__).resolve().parents[2] / "forge" / "model" / "embedded"

BARE = """
import json, sys
from pathlib import Path
import open_clip, torch
from PIL import Image
name, weights, data = sys.argv[1:]
own = {}
if name.endswith(".json"):
    own = json.loads(Path(name).with_suffix(".preprocess").read_text())
    open_clip.add_model_config(Path(name))
    name = Path(name).stem
own = {f"image_{key}": value for key, value in own.items() if key in ("mean", "std", "interpolation", "resize_mode")}
model, _, transform = open_clip.create_model_and_transforms(name, pretrained=weights, **own)
model.eval()
tokenizer = open_clip.get_tokenizer(name)
classes = sorted(path.name for path in Path(data).iterdir())
files = [(path, number) for number, each in enumerate(classes) for path in sorted((Path(data) / each).iterdir())]
right = 0
with torch.no_grad():
    texts = model.encode_text(tokenizer(classes), normalize=True)
    for start in range(0, len(files), 64):
        part = files[start:start + 64]
        images = torch.stack([transform(Image.open(path)) for path, _ in part])
        answers = (model.encode_image(images, normalize=True) @ texts.T).argmax(-1)
        right += sum(int(answer) == number for answer, (_, number) in zip(answers, part))
print(round(right / len(files), 4))
"""


def write_pictures(folder: Path, count: int) -> None:
    """Folders of generated pictures, made larger."""
    images, classes, labels = make_task(TASK, "test", count, 0)
    for number, (image, label) in enumerate(zip(images, classes, strict=True)):
        place = folder / labels[int(label)]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(place / f"{number}.png")


def bare_arguments(folder: Path, base: str | None) -> tuple[str, str]:
    """Name (or configuration file) and weights of the bare model."""
    if base is not None:
        name, _, weights = base.partition("=")
        return name, weights
    config = json.loads((EMBEDDED / "open_clip_config.json").read_text())
    model = config["model_cfg"]
    model["text_cfg"]["tokenizer_kwargs"]["bpe_path"] = str(EMBEDDED / "vocabulary.bpe")
    file = folder / "bare-embedded.json"
    file.write_text(json.dumps(model))
    file.with_suffix(".preprocess").write_text(json.dumps(config["preprocess_cfg"]))
    return str(file), str(EMBEDDED / "open_clip_model.safetensors")


def run(command: list[str], cwd: Path, figures: list[tuple[float, float]]) -> str:
    """Standard output of a program; its CPU and wall seconds join the list."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures.append((cpu, time.perf_counter() - started))
    return done.stdout


def main() -> None:
    """Parse the command line, run in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--images", type=int, default=600, metavar="N")
    parser.add_argument("--base", metavar="NAME=FILE", help="an open_clip architecture and its weights")
    chosen = parser.parse_args()
    forge = [sys.executable, "-m", "forge"]
    figures: dict[str, list[tuple[float, float]]] = {"open_clip, bare": [], "git forge evaluate": []}
    reached = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder / "data", chosen.images)
        model = folder / "model"
        subprocess.run(["git", "init", "--quiet", str(model)], check=True)
        subprocess.run(
            [*forge, "init", *(["--base", chosen.base] if chosen.base else [])], cwd=model, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        labels = [part for path in sorted((folder / "data").iterdir()) for part in ("--labels", path.name)]
        bare = [sys.executable, "-c", BARE, *bare_arguments(folder, chosen.base), str(folder / "data")]
        ours = [*forge, "evaluate", "--data", str(folder / "data"), *labels, "--json"]
        for _ in range(chosen.rounds):
            reached["open_clip, bare"] = float(run(bare, folder, figures["open_clip, bare"]))
            said = json.loads(run(ours, model, figures["git forge evaluate"]))
            reached["git forge evaluate"] = round(float(said[0]["accuracy"]), 4)
    first = [median(each[kind] for each in figures["open_clip, bare"]) for kind in (0, 1)]
    rows = []
    for way, runs in figures.items():
        cpu, wall = (median(each[kind] for each in runs) for kind in (0, 1))
        ratios = [f"{cpu / first[0]:.2f}", f"{wall / first[1]:.2f}"]
        rows.append([way, f"{cpu:.1f}", f"{wall:.1f}", *ratios, f"{reached[way]:.3f}"])
    print(aligned(["way", "CPU s", "wall s", "CPU, bare = 1", "wall, bare = 1", "ACC"], rows, {1, 2, 3, 4, 5}))


if __name__ == "__main__":
    main()
