"""git forge from Python: what the verbs do, on values.

    import forge

    repository = forge.open("our-model")
    repository.train("lung", "private/lung", epochs=8)
    repository.distill("lung", "private/lung", ipc=20)
    repository.commit("Add the lung task")
    model = repository.version().model()
    model.predict(images, task="lung")

Methods call the operations of the same name, which the commands call as well; they raise ForgeError, whose message and
hint say what is wrong and what to do. git itself does the rest: branches, merges, reverts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forge.console import Report, silent
from forge.data.listing import ReadOptions
from forge.data.matching import Given
from forge.errors import ForgeError
from forge.git.running import Repository
from forge.operations.opening import open_model, open_repository, set_up_clone
from forge.repo import versions as history

if TYPE_CHECKING:
    from forge.model.predictor import Predictor
    from forge.operations.add import Added
    from forge.operations.commit import Committed
    from forge.operations.distill import Distilled
    from forge.operations.evaluate import Row
    from forge.operations.export import Exported
    from forge.operations.train import Trained
    from forge.operations.verify import Verified
    from forge.recipe.card import Card
    from forge.recipe.item import Entry, ForgeItem, TaskScore

# Label texts in the classes' sorted order, or by the names of the classes.
Labels = Sequence[str] | Mapping[str, str]


def open(path: str | Path = ".", *, report: Report = silent) -> ModelRepository:
    """The model repository that a folder lies in. Raises ForgeError where there is none.

    report: takes the lines that the verbs print beside their results, such as what was read of a data set.
    """
    return ModelRepository(open_model(Path(path)), report)


def init(
    path: str | Path = ".",
    base: str = "embedded",
    *,
    strategy: str = "mixture",
    preset: str = "best",
    task_aware: bool = False,
    license: str | None = None,
    report: Report = silent,
) -> ModelRepository:
    """Make a git repository a model repository, in one commit, as `git forge init` does."""
    from forge.operations import init as operation

    repo = open_repository(Path(path))
    operation.init(repo, base, strategy=strategy, preset=preset, task_aware=task_aware, license_=license)
    return ModelRepository(repo, report)


@dataclass(frozen=True)
class Version:
    """One version of the model: a commit of its repository. date: of the author, ISO 8601."""

    repository: ModelRepository
    commit: str
    subject: str
    date: str
    author: str
    _item: ForgeItem | None
    problem: str | None = None

    @property
    def item(self) -> ForgeItem:
        """The recipe. Raises ForgeError where the commit's own is damaged or gone, which `problem` says."""
        if self._item is None:
            raise ForgeError(self.problem or f"{self.commit[:10]} has no forge item", hint="choose another version")
        return self._item

    @property
    def contributions(self) -> tuple[Entry, ...]:
        """The contributions in it with their coefficients, sorted by name."""
        return self.item.contributions

    @property
    def scores(self) -> tuple[TaskScore, ...]:
        """Accuracy and cross-entropy of every task on the distilled images, and of the model before."""
        return self.item.scores

    @property
    def cards(self) -> Mapping[str, Card]:
        """The cards by contribution, those that can be read."""
        from forge.operations.task_labels import cards_of

        return cards_of(self.repository.repo, self.commit, self.item.names)

    def model(self, contribution: str | None = None) -> Predictor:
        """The model as a torch module that predicts on PIL images; or one contribution alone, at coefficient 1."""
        from forge.model.predictor import Predictor
        from forge.operations.loading import load_model
        from forge.operations.task_labels import known_tasks, tasks_of, with_grey
        from forge.repo.items import read_settings_of

        repo, item = self.repository.repo, self.item
        loaded = load_model(repo, self.commit, read_settings_of(repo, self.commit).limits, contribution=contribution)
        groups = [tasks_of(repo, self.commit, item)]
        options_for = partial(with_grey, ReadOptions(), groups, only=contribution)
        return Predictor(loaded.base, loaded.model, known_tasks(item), options_for)


class ModelRepository:
    """A model repository: a clone with a work tree, in which contributions are made and committed."""

    def __init__(self, repo: Repository, report: Report = silent) -> None:
        self.repo, self.report = repo, report

    @property
    def path(self) -> Path:
        """The top folder of the work tree."""
        return self.repo.top

    def versions(self, rev: str = "HEAD", *, all_parents: bool = False) -> Iterator[Version]:
        """The commits up to a revision that changed the model, newest first, along first parents or all of them."""
        for each in history.versions(self.repo, rev, all_parents=all_parents):
            yield self._version(each)

    def version(self, rev: str = "HEAD") -> Version:
        """The version of a revision. Raises ForgeError where it has no forge item, or a damaged one."""
        return self._version(history.find_version(self.repo, rev))

    def train(
        self,
        name: str,
        data: str | Path,
        *,
        labels: Labels = (),
        task: str | None = None,
        test: str | Path | None = None,
        validation: float = 0.2,
        seed: int = 0,
        options: ReadOptions | None = None,
        **settings: Any,
    ) -> Trained:
        """Train an adapter on private images into contributions/NAME, as `git forge train`.

        settings: fields of forge.model.training.TrainSettings, such as epochs or rank.
        """
        from forge.operations.train import train

        self._set_up()
        return train(
            self.repo,
            name,
            Path(data),
            given=_given(labels),
            task=task,
            test=None if test is None else Path(test),
            validation=validation,
            options=options,
            seed=seed,
            settings=settings,
            report=self.report,
        )

    def distill(
        self,
        name: str,
        data: str | Path,
        *,
        labels: Labels = (),
        task: str | None = None,
        method: str | None = None,
        validation: float | None = None,
        seed: int | None = None,
        restart: bool = False,
        options: ReadOptions | None = None,
        **settings: Any,
    ) -> Distilled:
        """Distil private images into contributions/NAME, as `git forge distill`.

        settings: fields of forge.model.distillation.DistillSettings, such as ipc or steps.
        """
        from forge.operations.distill import distill

        self._set_up()
        return distill(
            self.repo,
            name,
            Path(data),
            given=_given(labels),
            task=task,
            method=method,
            validation=validation,
            options=options,
            seed=seed,
            settings=settings,
            restart=restart,
            report=self.report,
        )

    def add(
        self,
        name: str,
        adapter: str | Path,
        distilled: str | Path,
        *,
        labels: Sequence[str] = (),
        task: str | None = None,
        replacing: bool = False,
    ) -> Added:
        """Take a contribution in that was trained elsewhere, as `git forge add`."""
        from forge.operations.add import add

        self._set_up()
        paths = (Path(adapter), Path(distilled))
        return add(self.repo, name, *paths, labels=labels, task=task, replacing=replacing, report=self.report)

    def commit(self, message: str | None = None, *, accept: bool = False, consolidate: int | None = None) -> Committed:
        """Fold what changed in contributions/ into the forge item and commit both, as `git forge commit`.

        consolidate: steps of a consolidation to be trained anew, 0 for none.
        """
        from forge.operations.commit import commit_contributions

        self._set_up()
        return commit_contributions(self.repo, message, consolidate, accept=accept)

    def evaluate(
        self,
        data: str | Path | Sequence[str | Path],
        revs: str | Sequence[str] = (),
        *,
        contributions: Sequence[str] = (),
        labels: Labels = (),
        options: ReadOptions | None = None,
    ) -> list[Row]:
        """Measure versions (HEAD), and contributions alone, on labelled images, as `git forge evaluate`."""
        from forge.operations.evaluate import evaluate_models

        folders = [Path(data)] if isinstance(data, str | Path) else [Path(each) for each in data]
        revs = (revs,) if isinstance(revs, str) else revs
        given = _given(labels)
        return evaluate_models(
            self.repo, revs, folders, alone=contributions, given=given, options=options, report=self.report
        )

    def export(
        self, folder: str | Path, form: str, rev: str = "HEAD", *, task: str | None = None, bill: bool = False
    ) -> Exported:
        """Write a version into a new folder, as `git forge export`. form: "peft" or "open_clip"."""
        from forge.operations.export import export_model

        return export_model(self.repo, rev, Path(folder), form, task=task, bill=bill)

    def verify(self, rev: str = "HEAD", *, scores: bool = True, since: str | None = None) -> Verified:
        """Whether a version is what it says, as `git forge verify`."""
        from forge.operations.verify import verify

        return verify(self.repo, rev, scores=scores, since=since)

    def _set_up(self) -> None:
        message = set_up_clone(self.repo)
        if message:
            self.report(*message.splitlines())

    def _version(self, version: history.Version) -> Version:
        return Version(
            self, version.commit, version.subject, version.date, version.author, version.item, version.problem
        )


def _given(labels: Labels) -> Given:
    if isinstance(labels, str):
        raise ForgeError(f"labels is one text, {labels!r}", hint="give a text for each class, in a list or by class")
    if isinstance(labels, Mapping):
        return Given(pairs=tuple(f"{name}={text}" for name, text in labels.items()))
    return Given(tuple(labels))
