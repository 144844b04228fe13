"""Versions of the model along the history, against git's own words."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from sample_models import BASE, LABELS, SampleModel

from forge.commands.model_json import item_as_json
from forge.errors import ForgeError
from forge.operations.opening import open_model
from forge.recipe import item as recipe
from forge.recipe.item import Entry, ForgeItem, Search, TaskScore
from forge.recipe.layout import ITEM_FILE
from forge.repo.versions import (
    Change,
    changes,
    find_version,
    mean_accuracy,
    versions,
)


def score(task: str, accuracy: float, before: float | None = None) -> TaskScore:
    return TaskScore(task, LABELS, 4, accuracy, 0.5, before)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SampleModel:
    """Start, lung, (side: breast), a commit that is no version, a merge of side, and lung taken out."""
    model = SampleModel(tmp_path_factory.mktemp("original"))
    model.add_contribution("lung", {"lung": 0.5})
    model.git("checkout", "-q", "-b", "side")
    model.add_contribution("breast", {"lung": 0.4, "breast": 0.6})
    model.git("checkout", "-q", "main")
    model.write("README.md", b"A model.")
    model.commit("No version")
    model.hour += 1
    model.git("merge", "-q", "--no-ff", "-m", "Merge side", "side")
    model.git("rm", "-q", "-r", "contributions/lung")
    model.write_item(model.item({"breast": 0.7}))
    model.commit("Take lung out")
    return model


@pytest.fixture
def model(original: SampleModel, tmp_path: Path) -> SampleModel:
    return original.copy(tmp_path / "model")


MAIN = ["Take lung out", "Merge side", "Add lung", "Start the model"]


def test_first_parents(original: SampleModel) -> None:
    found = [*versions(original.repo)]
    assert [version.subject for version in found] == MAIN
    assert [version.commit for version in found] == [
        original.git("rev-parse", rev) for rev in ("main", "main~1", "main~3", "main~4")
    ]
    assert {version.author for version in found} == {"Ada"}
    assert found[-1].date == "2026-01-01T01:00:00+00:00"
    assert found[0].short == found[0].commit[:10]
    for version, older in pairwise(found):
        assert version.previous == older.item and version.problem is None
    assert found[-1].previous is None and found[-1].item == recipe.empty(BASE, "mixture")
    assert found[1].item and found[1].item.names == ("breast", "lung")


def test_all_parents(original: SampleModel) -> None:
    found = [*versions(original.repo, all_parents=True)]
    assert [version.subject for version in found] == [*MAIN[:2], "Add breast", *MAIN[2:]]
    assert found[1].item == found[2].item
    assert found[1].previous == found[2].previous  # each against its first parent


def test_count_and_revision(original: SampleModel) -> None:
    assert [version.subject for version in versions(original.repo, count=2)] == MAIN[:2]
    assert [version.subject for version in versions(original.repo, "main~2")] == MAIN[2:]
    assert [version.subject for version in versions(original.repo, "side", count=1)] == ["Add breast"]
    for rev in ("nowhere", "--all", "-p"):
        with pytest.raises(ForgeError, match="unknown revision"):
            versions(original.repo, rev)


def test_more_versions_than_one_batch(model: SampleModel, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = [*versions(model.repo)]
    monkeypatch.setattr("forge.repo.history._BATCH", 1)
    assert [*versions(model.repo)] == everything


def test_the_users_settings_do_not_interfere(model: SampleModel) -> None:
    expected = [*versions(model.repo)]
    for key, value in (
        ("log.showRoot", "false"),
        ("log.follow", "true"),
        ("log.decorate", "full"),
        ("log.date", "relative"),
        ("log.abbrevCommit", "true"),
        ("color.ui", "always"),
        ("format.pretty", "oneline"),
        ("diff.renames", "copies"),
        ("diff.noprefix", "true"),
    ):
        model.git("config", key, value)
    assert [*versions(model.repo)] == expected


def test_odd_authors_and_subjects(model: SampleModel) -> None:
    model.git("config", "user.name", "ignored")
    model.write_item(model.item({"breast": 0.8}))
    model.git("add", "--all")
    model.git("commit", "-q", "--author", "Zoë \\x1e <x@y>", "-m", ":000000 100644 000 111 A\tforge-item.json\n\nx")
    [version] = versions(model.repo, count=1)
    assert (version.author, version.subject) == ("Zoë \\x1e", ":000000 100644 000 111 A\tforge-item.json")
    assert version.item and version.item.names == ("breast",)


def test_damaged_removed_and_linked_items(model: SampleModel) -> None:
    (model.top / ITEM_FILE).write_text("{}")
    damaged = model.commit("Damage")
    model.git("rm", "-q", ITEM_FILE)
    removed = model.commit("Remove")
    (model.top / ITEM_FILE).symlink_to("/etc/passwd")
    linked = model.commit("Link")
    found = [*versions(model.repo, count=3)]
    assert [version.item for version in found] == [None, None, None]
    assert [version.previous is None for version in found] == [True, True, False]
    problems = [version.problem or "" for version in found]
    assert problems[0] == f"{linked[:10]}:forge-item.json: no plain file"
    assert problems[1] == f"{removed[:10]}:forge-item.json: removed"
    assert problems[2].startswith(f"{damaged[:10]}:forge-item.json: this is not a forge item")
    with pytest.raises(ForgeError, match="this is not a forge item"):
        find_version(model.repo, damaged)
    with pytest.raises(ForgeError, match="it is no version of a model") as caught:
        find_version(model.repo, removed)
    assert "git forge log" in str(caught.value.hint)
    assert find_version(model.repo, "HEAD~3").previous == [*versions(model.repo, "HEAD~3")][1].item


def test_find_version(original: SampleModel) -> None:
    for rev, version in zip(("main", "main~1", "main~3", "main~4"), versions(original.repo), strict=True):
        assert find_version(original.repo, rev) == version
    between = find_version(original.repo, "main~2")  # a commit that did not change the model
    assert between.subject == "No version" and between.item == between.previous


def test_a_model_is_opened_where_it_is(model: SampleModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.top / "contributions")
    assert open_model().top == model.top
    (model.top / "forge.toml").unlink()
    assert open_model().top == model.top  # it is in HEAD
    model.commit("Remove the settings")
    with pytest.raises(ForgeError, match=r"no forge\.toml in .*model: this is not a model repository") as caught:
        open_model()
    assert "git forge init" in str(caught.value.hint)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ForgeError, match="not in a git repository"):
        open_model()


ONE, TWO = Entry("x", "1" * 40, "1" * 40, "1" * 40, 0.5), Entry("x", "2" * 40, "1" * 40, "1" * 40, 0.5)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((), (), ()),
        ((), (ONE,), (Change("x", "added", None, 0.5),)),
        ((ONE,), (), (Change("x", "removed", 0.5, None),)),
        ((ONE,), (ONE,), (Change("x", "kept", 0.5, 0.5),)),
        ((ONE,), (replace(ONE, coefficient=0.0),), (Change("x", "rescaled", 0.5, 0.0),)),
        (
            (replace(ONE, coefficient={"q": 0.5}),),
            (replace(ONE, coefficient={"q": 0.25}),),
            (Change("x", "rescaled", {"q": 0.5}, {"q": 0.25}),),
        ),
        ((ONE,), (TWO,), (Change("x", "replaced", 0.5, 0.5),)),
        (
            (ONE, replace(ONE, name="z")),
            (replace(TWO, name="a"), TWO),
            (Change("a", "added", None, 0.5), Change("x", "replaced", 0.5, 0.5), Change("z", "removed", 0.5, None)),
        ),
    ],
)
def test_changes(before: tuple[Entry, ...], after: tuple[Entry, ...], expected: tuple[Change, ...]) -> None:
    old, new = ForgeItem(BASE, "mixture", before), ForgeItem(BASE, "mixture", after)
    assert changes(old, new) == expected
    if not before:
        assert changes(None, new) == expected
    if not after:
        assert changes(old, None) == expected


def test_a_change_of_coefficients_for_tasks_alone() -> None:
    scored = (score("a", 0.5), score("b", 0.5))
    old, new = (
        ForgeItem(BASE, "mixture", (replace(ONE, tasks=tasks),), None, scored) for tasks in ({"a": 1.0}, {"b": 0.5})
    )
    assert changes(old, new) == (Change("x", "rescaled", 0.5, 0.5, {"a": 1.0}, {"b": 0.5}),)
    assert changes(old, old)[0].kind == "kept"
    assert item_as_json(new)["contributions"][0]["tasks"] == {"b": 0.5}


def test_mean_accuracy() -> None:
    item = recipe.empty(BASE, "mixture")
    assert mean_accuracy(item) == (None, None)
    assert mean_accuracy(replace(item, scores=(score("a", 0.5),))) == (None, 0.5)
    both = replace(item, scores=(score("a", 0.5, 0.75), score("b", 1.0)))
    assert mean_accuracy(both) == (0.75, 0.75)


def test_json_is_json() -> None:
    search = Search(
        "shiwa", "contribution", "cross-entropy", 0.0, "Shiwa", 0, 40, 0.5, 1.5, 0.05, {"ours": 1}, None, 0.5
    )
    item = ForgeItem(BASE, "fusion", (ONE,), search, (score("a", 0.5),))
    found = json.loads(json.dumps(item_as_json(item)))
    assert found["contributions"] == [
        {"name": "x", "coefficient": 0.5, "tasks": {}, "adapter": "1" * 40, "config": "1" * 40, "distilled": "1" * 40}
    ]
    assert found["search"]["scales"] == {"ours": 1.0} and found["scores"][0]["labels"] == list(LABELS)
