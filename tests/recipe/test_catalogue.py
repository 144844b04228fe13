"""The catalogue is the one list of choices: nothing else names them twice or asks for one by its name."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from forge.errors import ForgeError
from forge.recipe import catalogue
from forge.recipe.catalogue import (
    DISTILLATION_METHODS,
    OBJECTIVE_CHOICES,
    OBJECTIVES,
    PER,
    SEARCH_METHODS,
    STRATEGIES,
    check_combination,
    check_one_model,
    default_distillation,
    distillation_method_named,
    look_up,
    search_method_named,
    strategy_named,
)

ROOT = Path(__file__).parents[2]
KINDS: dict[str, Collection[str]] = {
    "strategies": STRATEGIES,
    "searches": SEARCH_METHODS,
    "objectives": OBJECTIVE_CHOICES,
    "per": PER,
    "distillation methods": DISTILLATION_METHODS,
}
MAY_NAME_THEM = (
    "forge/recipe/catalogue.py",
    "examples/paper/published.py",  # the rows of the paper's tables
)
FILES = sorted(
    str(file.relative_to(ROOT)) for folder in ("forge", "examples/paper") for file in (ROOT / folder).rglob("*.py")
)


def second_lists(source: str) -> Iterator[str]:
    """Where a text of Python compares with a choice's name, or lists several of one kind."""
    for node in ast.walk(ast.parse(source)):
        texts: list[ast.expr | None] = []
        if isinstance(node, ast.Compare):
            texts, least = [node.left, *node.comparators], 1
        elif isinstance(node, ast.MatchValue):
            texts, least = [node.value], 1
        elif isinstance(node, ast.Tuple | ast.List | ast.Set):
            texts, least = list(node.elts), 2
        elif isinstance(node, ast.Dict):
            texts, least = list(node.keys), 2
        else:
            continue
        constants = {text.value for text in texts if isinstance(text, ast.Constant)}
        for kind, names in KINDS.items():
            if len(constants.intersection(names)) >= least:
                yield f"line {node.lineno}: {kind}: {ast.unparse(node)}"


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('if strategy == "mixture": pass', 1),
        ('if "fusion" != item.strategy: pass', 1),
        ('match method:\n    case "dm" | "dm-dsa": pass', 2),
        ('click.Choice(["mixture", "fusion"])', 1),
        ('{"joint": 0.01, "exact": 0.01}', 1),
        ('compose("mixture", members)', 0),
        ('("mixture", "joint", "module")', 0),
        ("strategy == MIXTURE.name", 0),
    ],
)
def test_what_counts_as_a_second_list(source: str, count: int) -> None:
    assert len(list(second_lists(source))) == count


@pytest.mark.parametrize("file", FILES)
def test_nothing_else_lists_the_choices_or_compares_their_names(file: str) -> None:
    if file not in MAY_NAME_THEM:
        assert list(second_lists((ROOT / file).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("table", [STRATEGIES, SEARCH_METHODS, PER, OBJECTIVES, DISTILLATION_METHODS])
def test_every_choice_has_its_name_and_a_help(table: dict[str, catalogue.Strategy]) -> None:
    assert all(name == value.name and value.help for name, value in table.items())
    assert len({value.help for value in table.values()}) == len(table)


@pytest.mark.parametrize("name", ["averaging", "", None, 3, ["mixture"], "x" * 5000])
@pytest.mark.parametrize(
    ("named", "table", "what"),
    [
        (strategy_named, STRATEGIES, "strategy"),
        (search_method_named, SEARCH_METHODS, "search method"),
        (distillation_method_named, DISTILLATION_METHODS, "distillation method"),
        (lambda name: look_up(OBJECTIVES, name, "objective"), OBJECTIVES, "objective"),
    ],
)
def test_an_unknown_name_is_refused_with_those_there_are(
    name: object, named: object, table: dict[str, object], what: str
) -> None:
    assert all(named(each) is value for each, value in table.items())  # type: ignore[operator]
    with pytest.raises(ForgeError, match=f"^unknown {what} ") as caught:
        named(name)  # type: ignore[operator]
    assert caught.value.hint == f"use one of: {', '.join(table)}"
    assert len(caught.value.message) < 100


@pytest.mark.parametrize(
    ("strategy", "method", "per", "message"),
    [
        ("mixture", "joint", "module", None),
        ("fusion", "exact", "module", None),
        ("mixture-output", "joint", "contribution", None),
        ("mixture", "shiwa", "contribution", None),
        ("mixture", "shiwa", "module", "search.method shiwa finds two scales a merge"),
        ("mixture-output", "joint", "module", "merge.strategy mixture-output weighs whole outputs"),
        ("averaging", "joint", "module", "unknown strategy"),
        ("mixture", "newton", "module", "unknown search method"),
        ("mixture", "joint", "layer", "unknown granularity"),
    ],
)
def test_combinations(strategy: str, method: str, per: str, message: str | None) -> None:
    if message is None:
        check_combination(strategy, method, per)
        return
    with pytest.raises(ForgeError, match=message) as caught:
        check_combination(strategy, method, per)
    assert caught.value.hint


def test_one_set_of_weights_or_several() -> None:
    check_one_model("mixture", "it cannot be", "do this")
    check_one_model("fusion", "it cannot be", "do this")
    with pytest.raises(ForgeError, match=r"^mixture-output is several models: it cannot be$") as caught:
        check_one_model("mixture-output", "it cannot be", "do this")
    assert caught.value.hint == "do this"


def test_every_family_of_bases_has_one_default() -> None:
    families = [method.default_for for method in DISTILLATION_METHODS.values() if method.default_for]
    assert sorted(families) == ["paper", "small"]
    assert default_distillation("small").name == "teacher-points"
    assert default_distillation("paper").name == "dm-dsa"


@pytest.mark.parametrize("name", DISTILLATION_METHODS)
def test_what_a_method_releases_is_said(name: str) -> None:
    method = distillation_method_named(name)
    privacy = method.privacy
    assert list(privacy) == ["released", "start", "guarantee"]
    assert "the synthetic images" in privacy["released"]
    assert ("colour channel" in privacy["released"]) == ("colour channel" in privacy["start"]) == method.needs_adapter
    assert privacy["guarantee"].startswith("none")
