# %% [markdown]
# # git forge from Python
# Two hospitals make one model of generated images, in a folder of its own: what `git forge train`, `distill`, `commit`,
# `evaluate`, `predict` and `export` do, called from Python. Run it in cells, or whole: python examples/api.py [FOLDER]

# %%
from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # an installed git forge brings no examples

from PIL import Image

import forge
from examples.generated.image_folder import write_image_folder
from examples.generated.tasks import make_task

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="git-forge-api-")).absolute()
hospitals = ("breast", "colon")


def git(*args: str) -> None:
    """Plain git does what git forge does not: branches and merges."""
    # Nobody's own settings and hooks: the example is the same everywhere.
    own = ("-c", "user.name=Ada Example", "-c", "user.email=ada@example.org")
    subprocess.run(["git", *own, *args], cwd=folder / "model", check=True, stdout=subprocess.DEVNULL)


# %% [markdown]
# Each hospital has images of its own; a class's folder is named after its label.

# %%
for hospital in hospitals:
    for split, count in (("train", 40), ("test", 20)):
        images, classes, labels = make_task(hospital, split, count, seed=1)
        write_image_folder(folder / hospital / split, images, classes, labels)

# %% [markdown]
# An empty model on the embedded base. How coefficients are searched stands in forge.toml; here a short search will do.

# %%
(folder / "model").mkdir()
git("init", "--quiet", "--initial-branch=main")
git("config", "user.name", "Ada Example")
git("config", "user.email", "ada@example.org")
repository = forge.init(folder / "model")
settings = repository.path / "forge.toml"
settings.write_text(settings.read_text().replace("evaluations = 40", "evaluations = 10"))
git("commit", "--quiet", "-am", "Search quickly")

# %% [markdown]
# Each hospital trains and distils on a branch. With so few images and steps the figures are poor.

# %%
for hospital in hospitals:
    git("switch", "--quiet", "-c", hospital, "main")
    data = folder / hospital / "train"
    repository.train(hospital, data, epochs=4, batch=16, seed=1)
    repository.distill(hospital, data, ipc=4, steps=10, points=2, judge_steps=5)
    repository.commit()
git("switch", "--quiet", "main")
for hospital in hospitals:
    git("merge", "--quiet", "--no-edit", hospital)

# %% [markdown]
# The versions of the model, newest first, and what the newest one is made of.

# %%
for version in repository.versions():
    print(version.commit[:10], version.subject)
version = repository.version()
for entry in version.contributions:
    print(entry.name, version.cards[entry.name].labels)
for score in version.scores:
    print(f"{score.task}: accuracy {score.accuracy:.3f} on {score.images} distilled images")

# %% [markdown]
# The model as a torch module, and on the images that nobody has trained on.

# %%
model = version.model()
pictures = [Image.open(path) for path in sorted((folder / "colon" / "test").rglob("*.png"))[:2]]
for row in model.predict(pictures, task="colon").tolist():
    print({label: round(value, 3) for label, value in zip(model.tasks["colon"], row, strict=True)})
for result in repository.evaluate([folder / hospital / "test" for hospital in hospitals]):
    print(f"{result.data.parent.name}: ACC {result.accuracy:.3f} on {result.images} images")

# %% [markdown]
# For other tools: one LoRA that does what the recipe does.

# %%
exported = repository.export(folder / "peft", "peft")
print("exported for", exported.base.reference)
