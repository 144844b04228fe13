"""Trailers of commit messages, and what the hook does to a message file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sample_models import BASE, SampleModel

from forge.errors import ForgeError
from forge.recipe import item as recipe
from forge.recipe.item import Entry, ForgeItem, TaskScore
from forge.recipe.layout import ITEM_FILE
from forge.repo.message_file import take_trailers_out
from forge.repo.trailers import trailer_lines, trailer_problems, write_trailers

ITEM = ForgeItem(
    BASE,
    "mixture",
    (Entry("breast", "a" * 40, "b" * 40, "c" * 40, 0.6123), Entry("colon", "d" * 40, "e" * 40, "f" * 40, -1)),
    scores=(
        TaskScore("breast", ("a", "b"), 40, 0.887, 0.334, 0.912, 0.291),
        TaskScore("colon", ("a", "b"), 40, 0.9, 0.25),
    ),
)
LINES = [
    "Forge-Strategy: mixture",
    "Forge-Contribution: breast 0.612300",
    "Forge-Contribution: colon -1.000000",
    "Forge-Score: breast accuracy 0.912 -> 0.887, cross-entropy 0.291 -> 0.334 (distilled images)",
    "Forge-Score: colon accuracy 0.900, cross-entropy 0.250 (distilled images)",
]


def test_lines() -> None:
    assert trailer_lines(ITEM, None) == LINES
    assert trailer_lines(ITEM, ITEM) == LINES
    assert trailer_lines(recipe.empty(BASE, "fusion"), None) == ["Forge-Strategy: fusion"]


def test_richer_coefficients_stay_one_line_a_contribution() -> None:
    breast, colon = ITEM.contributions
    modules = {f"layer.{number}": number / 4 for number in range(5)}
    richer = (replace(breast, coefficient=modules, tasks={"breast": modules}), replace(colon, tasks={"breast": 0.0}))
    assert trailer_lines(replace(ITEM, contributions=richer), None) == [
        "Forge-Strategy: mixture, task-aware",
        "Forge-Contribution: breast 0.500000 (0.000 to 1.000)",
        *LINES[2:],
    ]


def test_removed() -> None:
    after = replace(ITEM, contributions=ITEM.contributions[1:], scores=())
    assert trailer_lines(after, ITEM) == [LINES[0], LINES[2], "Forge-Removed: breast"]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SampleModel:
    """A model with lung at .5, committed, and breast at .25 besides, staged."""
    model = SampleModel(tmp_path_factory.mktemp("original"))
    model.add_contribution("lung", {"lung": 0.5})
    model.write_contribution("breast")
    model.write_item(model.item({"lung": 0.5, "breast": 0.25}))
    model.git("add", "--all")
    return model


@pytest.fixture
def model(original: SampleModel, tmp_path: Path) -> SampleModel:
    """A copy of `original` for one test."""
    return original.copy(tmp_path / "model")


STAGED = "Forge-Strategy: mixture\nForge-Contribution: breast 0.250000\nForge-Contribution: lung 0.500000\n"
COMMITTED = "Forge-Strategy: mixture\nForge-Contribution: lung 0.500000\n"
OLD = "Forge-Strategy: fusion\nForge-Contribution: lung 0.900000\nForge-Removed: x\nForge-Score: lung accuracy 1\n"


@pytest.fixture
def written(model: SampleModel, tmp_path: Path) -> Callable[..., str]:
    """written(message, source): the message after the hook, which is run twice."""

    def write(message: str, source: str | None = "message") -> str:
        file = tmp_path / "a message"
        file.write_text(message)
        write_trailers(model.repo, file, source)
        once = file.read_text()
        write_trailers(model.repo, file, source)
        assert file.read_text() == once
        return once

    return write


@pytest.mark.parametrize("source", ["message", "merge", "squash"])
@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Subject\n", f"Subject\n\n{STAGED}"),
        ("Subject", f"Subject\n\n{STAGED}"),
        ("Subject\n\nIt is:\na body.\n", f"Subject\n\nIt is:\na body.\n\n{STAGED}"),
        ("Subject\n\nSigned-off-by: Ada <a@b>\n", f"Subject\n\nSigned-off-by: Ada <a@b>\n{STAGED}"),
        (f"Subject\n\n{OLD}", f"Subject\n\n{STAGED}"),
        (f"Subject\n\nBody\n\n{OLD}\n# comment\n", f"Subject\n\nBody\n\n{STAGED}\n# comment\n"),
        (f"Merge\n\n{OLD}Signed-off-by: A <a>\n", f"Merge\n\nSigned-off-by: A <a>\n{STAGED}"),
        (f"One\n\n{OLD}\nTwo\n\n{OLD}", f"One\n\nTwo\n\n{STAGED}"),
        ("Merge branch 'x'\n\n# Conflicts:\n#\tforge-item.json\n",
         f"Merge branch 'x'\n\n{STAGED}\n# Conflicts:\n#\tforge-item.json\n"),
        ("Subject\n\n---\nnot a patch\n", f"Subject\n\n---\nnot a patch\n\n{STAGED}"),
    ],
)  # fmt: skip
def test_message(written: Callable[..., str], message: str, expected: str, source: str) -> None:
    assert written(message, source) == expected


def test_what_is_below_the_scissors_stays(written: Callable[..., str]) -> None:
    below = f"# {'-' * 24} >8 {'-' * 24}\n# Do not modify\ndiff --git a/x b/x\n{OLD}"
    assert written(f"Subject\n\n{OLD}{below}") == f"Subject\n\n{STAGED}\n{below}"


def test_an_empty_message_stays_empty(written: Callable[..., str]) -> None:
    for source in (None, "template"):
        assert written("\n# Please enter the commit message\n", source) == "\n# Please enter the commit message\n"


def test_unchanged_model(model: SampleModel, written: Callable[..., str]) -> None:
    model.git("reset", "--hard", "--quiet")
    assert written("Subject\n") == "Subject\n"
    assert written(f"Subject\n\n{OLD}") == "Subject\n"
    # An amended commit is compared with its parent, so its trailers stay.
    assert written(f"Subject\n\n{OLD}", "commit") == f"Subject\n\n{COMMITTED}"


def test_first_commit(model: SampleModel, written: Callable[..., str]) -> None:
    model.git("checkout", "--quiet", "--orphan", "other")
    assert written("Subject\n") == f"Subject\n\n{STAGED}"
    assert written("Subject\n", "commit") == f"Subject\n\n{STAGED}"


def test_removed_and_damaged_items(model: SampleModel, written: Callable[..., str], tmp_path: Path) -> None:
    model.write_item(model.item({"breast": 0.25}))
    model.git("add", "--all")
    assert "Forge-Removed: lung\n" in written("Subject\n")
    (model.top / ITEM_FILE).write_text("{}")
    model.commit("Damage")
    with pytest.raises(ForgeError, match=r":forge-item\.json"):
        write_trailers(model.repo, tmp_path / "a message", "message")
    model.write_item(model.item({"breast": 0.25}))
    model.git("add", "--all")
    assert written("Mend\n") == "Mend\n\nForge-Strategy: mixture\nForge-Contribution: breast 0.250000\n"
    model.git("rm", "--quiet", "--force", ITEM_FILE)
    assert written("No model\n") == "No model\n"


def test_user_settings_do_not_interfere(model: SampleModel, written: Callable[..., str]) -> None:
    for key, value in (("trailer.separators", "="), ("trailer.ifexists", "replace"), ("trailer.where", "start"),
                       ("core.commentChar", ";"), ("trailer.sign.key", "Signed-off-by: "),
                       ("trailer.sign.command", "echo me"), ("trailer.forge-strategy.key", "Plan: ")):  # fmt: skip
        model.git("config", key, value)
    assert written("Subject\n\n; comment\n") == f"Subject\n\n{STAGED}\n; comment\n"


def test_with_real_git(tmp_path: Path) -> None:
    """The trailers follow the model through amend, rebase, cherry-pick, revert, merge and an aborted commit."""
    from forge.clone import setup as clone_setup

    model = SampleModel(tmp_path / "model")
    model.add_contribution("lung", {"lung": 0.5})
    clone_setup.install(model.repo)

    def message(rev: str = "HEAD") -> str:
        return model.git("log", "-1", "--format=%B", rev)

    def trailers(**coefficients: float) -> str:
        lines = [f"Forge-Contribution: {name} {value:.6f}" for name, value in sorted(coefficients.items())]
        return "\n".join(["Forge-Strategy: mixture", *lines])

    model.git("checkout", "-q", "-b", "topic")
    model.add_contribution("breast", {"lung": 0.4, "breast": 0.6})
    assert message() == f"Add breast\n\n{trailers(lung=0.4, breast=0.6)}"
    model.write_item(model.item({"lung": 0.4, "breast": 0.7}))
    model.git("commit", "-q", "-a", "--amend", "--no-edit")
    assert message() == f"Add breast\n\n{trailers(lung=0.4, breast=0.7)}"

    model.git("checkout", "-q", "main")
    model.write("README.md", b"A model.")
    model.commit("No version")
    assert message() == "No version"
    model.git("rebase", "-q", "main", "topic")
    assert message() == f"Add breast\n\n{trailers(lung=0.4, breast=0.7)}"
    model.git("checkout", "-q", "-b", "picked", "main")
    model.git("cherry-pick", "topic")
    assert message() == f"Add breast\n\n{trailers(lung=0.4, breast=0.7)}"
    model.git("revert", "--no-edit", "HEAD")
    assert message().endswith(f"\n\n{trailers(lung=0.5)}\nForge-Removed: breast")

    model.git("checkout", "-q", "main")
    model.git("merge", "-q", "--no-ff", "-m", "Merge topic", "topic")
    assert message() == f"Merge topic\n\n{trailers(lung=0.4, breast=0.7)}"
    model.write_item(model.item({"lung": 0.1, "breast": 0.7}))
    model.git("add", "--all")
    head = model.git("rev-parse", "HEAD")
    model.git("-c", "core.editor=true", "commit", check=False)  # an editor that is left at once
    assert model.git("rev-parse", "HEAD") == head


def test_a_message_that_says_what_the_forge_item_does_not(original: SampleModel, tmp_path: Path) -> None:
    """Left out is fine, repeated is fine; made up is not, wherever in the message it stands."""
    from forge.repo.items import find_item

    model = original.copy(tmp_path / "model")
    item, before = find_item(model.repo, "HEAD"), None
    assert item is not None
    lines = trailer_lines(item, before)
    made_up = "Forge-Score: lung accuracy 0.500 -> 1.000, cross-entropy 0.9 -> 0.1 (distilled images)"
    messages = {
        "nothing said": None,
        "as it is\n\n" + "\n".join(lines): None,
        "in part\n\n" + lines[0]: None,
        "made up\n\n" + made_up: made_up,
        f"made up\n\n{made_up}\n\nin the middle of a text": made_up,
        "twice\n\n" + lines[0] + "\nforge-contribution: lung 0.900000": "forge-contribution: lung 0.900000",
        "hidden\n\nForge-Removed: breast\x1b[2K": "Forge-Removed: breast\\x1b[2K",
        "Forge-Accepted: nothing at all": "Forge-Accepted: nothing at all",
    }
    for message, problem in messages.items():
        model.git("commit", "--quiet", "--allow-empty", "--cleanup=verbatim", "-m", message)
        commit = model.git("rev-parse", "HEAD")
        said = [f"the message of {commit[:10]} says what its forge item does not: {problem}"] if problem else []
        assert trailer_problems(model.repo, [commit]) == said, message
    found = trailer_problems(model.repo, model.git("rev-list", "HEAD").split())
    assert len(found) == sum(problem is not None for problem in messages.values())
    assert trailer_problems(model.repo, []) == []


def test_of_a_commit_without_a_model(tmp_path: Path) -> None:
    model = SampleModel(tmp_path / "model")
    model.git("rm", "-rq", ".")
    model.git("commit", "--quiet", "-m", "No model\n\nForge-Strategy: mixture")
    assert len(trailer_problems(model.repo, [model.git("rev-parse", "HEAD")])) == 1


def test_a_patch_lands_without_the_trailers_of_another_version(tmp_path: Path) -> None:
    message = tmp_path / "message"
    for before, after in (
        (
            "Lung\n\nA text.\n\n" + "\n".join(LINES) + "\nSigned-off-by: Ada\n",
            "Lung\n\nA text.\n\nSigned-off-by: Ada\n",
        ),
        ("Lung\n", "Lung\n"),
    ):
        message.write_text(before)
        take_trailers_out(message)
        assert message.read_text() == after
