"""An interrupted distillation, kept under .git/forge until it is done."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from forge.errors import ForgeError
from forge.git.running import Repository, state_dir
from forge.model.adapters import Adapter, adapter_digest
from forge.model.base import BaseModel
from forge.model.distillation import DistilledImages, DistillSettings, Progress, used_settings
from forge.model.scoring import Score
from forge.operations.private_data import PrivateData
from forge.processes import is_main

SECONDS_BETWEEN_SAVES = 10.0  # the paper's run on ViT-B/16 would write 48 MB at each of 5000 steps otherwise

_BEST = "best."
_MOMENT = "moment."


@dataclass(frozen=True)
class Unfinished:
    """Where a run is kept, and a key over all that it depends on: another run does not continue this one."""

    path: Path
    key: str

    @staticmethod
    def of(
        repo: Repository,
        name: str,
        base: BaseModel,
        private: PrivateData,
        settings: DistillSettings,
        adapter: Adapter | None = None,
    ) -> Unfinished:
        known = [base.fingerprint, private.labels, used_settings(settings), adapter and adapter_digest(adapter)]
        digest = hashlib.sha256(json.dumps(known).encode())
        for part in (private.train, private.validation):
            for some in torch.split(part.pixels, 256):
                digest.update(some.cpu().numpy().tobytes())
            digest.update(part.targets.cpu().numpy().tobytes())
        return Unfinished(state_dir(repo) / "distilling" / f"{name}.safetensors", digest.hexdigest())

    def read(self) -> Progress | None:
        """The last saved state of this very run, if there is one."""
        from safetensors import SafetensorError, safe_open

        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                record = file.metadata() or {}
                if record.get("key") != self.key:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError):
            return None  # cut short by a crash or a full disk: the run starts again
        best = None
        if f"{_BEST}images" in tensors:
            cross_entropy, accuracy = tensors[f"{_BEST}score"].tolist()
            parts = {key: tensors[_BEST + key] for key in ("images", "targets", "offset", "scale")}
            best = replace(DistilledImages(**parts), score=Score(cross_entropy, accuracy))
        moments = {key.removeprefix(_MOMENT): value for key, value in tensors.items() if key.startswith(_MOMENT)}
        return Progress(int(record["step"]), tensors["pixels"], moments, best)

    def write(self, progress: Progress) -> None:
        """Save the state in one step; of several processes the main one does."""
        if not is_main():
            return
        from safetensors.torch import save_file

        tensors = {"pixels": progress.pixels, **{_MOMENT + key: value for key, value in progress.moments.items()}}
        best = progress.best
        if best is not None and best.score is not None:
            score = [best.score.cross_entropy, best.score.accuracy]
            tensors |= {_BEST + key: getattr(best, key) for key in ("images", "targets", "offset", "scale")}
            tensors[f"{_BEST}score"] = torch.tensor(score, dtype=torch.float64)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        try:
            save_file(
                {key: value.cpu().contiguous() for key, value in tensors.items()},
                fresh,
                {"key": self.key, "step": str(progress.step)},
            )
            fresh.replace(self.path)
        except OSError as error:
            raise ForgeError(f"{self.path}: cannot be written: {error.strerror}") from error

    def forget(self) -> None:
        """Remove the saved state."""
        if not is_main():
            return
        self.path.unlink(missing_ok=True)

    @contextmanager
    def saving(self) -> Iterator[Saver]:
        """Saves now and then in the block, and once more where Ctrl-C or an error ends it."""
        saver = Saver(self)
        try:
            yield saver
        except BaseException:
            saver.flush()
            raise


class Saver:
    """Called with each state of a run; any of them continues to the same result, so few need be written."""

    def __init__(self, unfinished: Unfinished) -> None:
        self.unfinished = unfinished
        self.latest: Progress | None = None
        self.written: float | None = None

    def __call__(self, progress: Progress) -> None:
        self.latest = progress
        if self.written is None or time.monotonic() - self.written >= SECONDS_BETWEEN_SAVES:
            self.flush()

    def flush(self) -> None:
        """Write the latest state, if it is not written yet."""
        if self.latest is not None:
            self.unfinished.write(self.latest)
            self.latest, self.written = None, time.monotonic()
