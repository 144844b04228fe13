"""Three-way merge of recipes: a table of every case, and the coefficients against the paper's recursion."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from forge.errors import MergeConflict
from forge.recipe.item import Base, Entry, ForgeItem, TaskScore, identity
from forge.recipe.three_way import MergePlan, combine, entries_with, plan_merge, plan_of_tree, put_together, union

BASE = Base("embedded", "sha256:base")


def entry(name: str, version: str, coefficient: float) -> Entry:
    """A contribution whose adapter's blob id stands for its version."""
    adapter = hashlib.sha1(f"{name} {version}".encode()).hexdigest()
    distilled = hashlib.sha1(name.encode()).hexdigest()
    return Entry(name, adapter, "c" * 40, distilled, coefficient)


def item(text: str, strategy: str = "mixture", base: Base = BASE) -> ForgeItem:
    """`lung:1*0.5 breast:2*1`: lung in version 1 with coefficient 0.5, breast in version 2 with 1."""
    entries = []
    for word in text.split():
        name, rest = word.split(":")
        version, coefficient = rest.split("*")
        entries.append(entry(name, version, float(coefficient)))
    return ForgeItem(base, strategy, tuple(entries))


def spell(entries: tuple[Entry, ...]) -> str:
    """The reverse of `item`, for messages that a person can read."""
    words = []
    for found in entries:
        version = next(v for v in "123" if entry(found.name, v, 0).adapter == found.adapter)
        words.append(f"{found.name}:{version}*{found.coefficient:g}")
    return " ".join(words)


# what happened, ancestor, ours, theirs: taken from ours, taken from theirs, removed
CASES = [
    ("nothing", "", "", "", "", "", ""),
    ("same contributions", "a:1*1", "a:1*1", "a:1*1", "a:1*1", "", ""),
    ("added in ours", "", "a:1*1", "", "a:1*1", "", ""),
    ("added in theirs", "", "", "a:1*1", "", "a:1*1", ""),
    ("one added in each", "", "a:1*.4", "b:1*.6", "a:1*.4", "b:1*.6", ""),
    ("several added in each", "", "b:1*2 d:1*4", "a:1*1 c:1*3", "b:1*2 d:1*4", "a:1*1 c:1*3", ""),
    ("the same added in both", "", "a:1*.4", "a:1*.6", "a:1*.4", "", ""),
    ("theirs adds to a shared one", "a:1*.5", "a:1*.5", "a:1*.3 b:1*.6", "a:1*.5", "b:1*.6", ""),
    ("both add to a shared one", "a:1*.5", "a:1*.2 b:1*.7", "a:1*.3 c:1*.6", "a:1*.2 b:1*.7", "c:1*.6", ""),
    ("coefficient changed in ours", "a:1*.5", "a:1*.2", "a:1*.5", "a:1*.2", "", ""),
    ("coefficient changed in theirs", "a:1*.5", "a:1*.5", "a:1*.2", "a:1*.5", "", ""),
    ("coefficient changed in both", "a:1*.5", "a:1*.2", "a:1*.3", "a:1*.2", "", ""),
    ("removed in ours", "a:1*1 b:1*1", "b:1*.5", "a:1*1 b:1*1", "b:1*.5", "", ""),
    ("removed in theirs", "a:1*1 b:1*1", "a:1*1 b:1*1", "b:1*.5", "b:1*1", "", "a"),
    ("removed in both", "a:1*1 b:1*1", "b:1*.5", "b:1*.6", "b:1*.5", "", ""),
    ("removed in theirs, rescaled in ours", "a:1*1", "a:1*.5 b:1*1", "", "b:1*1", "", "a"),
    ("removed in ours, rescaled in theirs", "a:1*1", "", "a:1*.5 b:1*1", "", "b:1*1", ""),
    ("replaced in ours", "a:1*1", "a:2*.5", "a:1*1", "a:2*.5", "", ""),
    ("replaced in theirs", "a:1*1", "a:1*1", "a:2*.5", "", "a:2*.5", ""),
    ("replaced alike in both", "a:1*1", "a:2*.4", "a:2*.5", "a:2*.4", "", ""),
    ("replaced in theirs, rescaled in ours", "a:1*1", "a:1*.7 b:1*1", "a:2*.5", "b:1*1", "a:2*.5", ""),
    ("removed, and another added, in theirs", "a:1*1", "a:1*1 b:1*1", "c:1*1", "b:1*1", "c:1*1", "a"),
    ("renamed in theirs", "a:1*1", "a:1*1 b:1*1", "z:1*1", "b:1*1", "z:1*1", "a"),
]

CONFLICTS = [
    ("added differently", "", "a:1*1", "a:2*1", "'a' was added differently"),
    ("replaced differently", "a:1*1", "a:2*1", "a:3*1", "'a' was replaced differently"),
    ("removed in ours, replaced in theirs", "a:1*1", "", "a:2*1", "removed in ours and replaced in theirs"),
    ("replaced in ours, removed in theirs", "a:1*1", "a:2*1", "", "removed in theirs and replaced in ours"),
    ("one of several", "b:1*1", "a:1*1 b:1*1", "a:2*1 b:1*1", "contributions/a: "),
    ("names of one folder", "", "Lung:1*1", "lung:1*1", "contributions/lung and contributions/Lung differ"),
]  # fmt: skip


@pytest.mark.parametrize(("ancestor", "ours", "theirs", "kept", "taken", "removed"), [c[1:] for c in CASES],
                         ids=[c[0] for c in CASES])  # fmt: skip
def test_merge(ancestor: str, ours: str, theirs: str, kept: str, taken: str, removed: str) -> None:
    plan = plan_merge(item(ancestor), item(ours), item(theirs))
    expected = spell(item(kept).contributions), spell(item(taken).contributions), tuple(removed.split())
    assert (spell(plan.ours), spell(plan.theirs), plan.removed) == expected
    assert (plan.base, plan.strategy) == (BASE, "mixture")
    if not ancestor:
        assert plan_merge(None, item(ours), item(theirs)) == plan


@pytest.mark.parametrize(("ancestor", "ours", "theirs", "message"), [c[1:] for c in CONFLICTS],
                         ids=[c[0] for c in CONFLICTS])  # fmt: skip
def test_conflict(ancestor: str, ours: str, theirs: str, message: str) -> None:
    with pytest.raises(MergeConflict, match=message) as caught:
        plan_merge(item(ancestor), item(ours), item(theirs))
    hint = str(caught.value.hint)
    assert "git merge --abort" in hint and "git forge commit" in hint and "contributions/" in hint
    union(item(ancestor), item(ours), item(theirs))  # never conflicts


def test_strategy() -> None:
    mixture, fusion = item("a:1*1"), item("a:1*1", "fusion")
    assert plan_merge(mixture, fusion, mixture).strategy == "fusion"
    assert plan_merge(mixture, mixture, fusion).strategy == "fusion"
    assert plan_merge(mixture, fusion, fusion).strategy == "fusion"
    with pytest.raises(MergeConflict, match="ours 'fusion', theirs 'mixture'"):
        plan_merge(None, fusion, mixture)


def test_base() -> None:
    before, one, other = (item("a:1*1", base=Base("x", f"sha256:{n}")) for n in "012")
    assert plan_merge(before, one, before).base == one.base
    assert plan_merge(before, before, other).base == other.base
    assert plan_merge(before, other, other).base == other.base
    for ancestor in (None, before):
        with pytest.raises(MergeConflict, match=r"on x \(sha256:1\), theirs on x \(sha256:2\)"):
            plan_merge(ancestor, one, other)


def test_the_same_base_under_two_references_is_no_conflict() -> None:
    before, one, other = (item("", base=Base(path, "sha256:same")) for path in ("/a", "/b", "/c"))
    assert plan_merge(before, one, before).base.reference == "/b"
    assert plan_merge(before, before, other).base.reference == "/c"
    assert plan_merge(before, one, other).base.reference == "/b"
    assert plan_merge(None, one, other).base.reference == "/b"


@pytest.mark.parametrize(
    ("ancestor", "ours", "theirs", "result"),
    [
        ("", "a:1*1", "b:1*2", "a:1*1 b:1*1"),
        ("", "a:1*1", "a:2*2", "a:1*1"),
        ("a:1*1", "a:2*1", "", "a:2*1"),
        ("a:1*1", "", "a:2*1", "a:2*1"),
        ("a:1*1", "a:1*1", "", ""),
        ("a:1*1", "", "a:1*1", ""),
        ("a:1*1", "a:1*.5", "a:2*.7", "a:2*1"),
        ("a:1*1", "a:1*.5", "a:1*.7", "a:1*1"),
        ("", "Lung:1*1", "lung:2*1", "Lung:1*1"),
    ],
)
def test_union(ancestor: str, ours: str, theirs: str, result: str) -> None:
    merged = union(item(ancestor), item(ours), item(theirs))
    assert spell(merged.contributions) == spell(item(result).contributions)
    assert merged.search is None and merged.scores == ()
    if not ancestor:
        assert union(None, item(ours), item(theirs)) == merged


def test_union_of_base_and_strategy() -> None:
    before, one, other = item(""), item("", "fusion"), item("", base=Base("x", "sha256:x"))
    merged = union(before, one, other)
    assert (merged.base, merged.strategy) == (other.base, "fusion")
    assert union(None, one, other).base == one.base


# The recursion of coefficients, against the paper's own recursion on matrices.


def adapter(name: str) -> tuple[np.ndarray, np.ndarray]:
    """(A [2, 5], B [4, 2]) of a contribution, drawn from its name."""
    draw = np.random.default_rng(list(name.encode()))
    return draw.normal(size=(2, 5)), draw.normal(size=(4, 2))


def fused(entries: tuple[Entry, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Fusion, unrolled: A = sum c_k A_k and B = sum c_k B_k."""
    A = sum((c.coefficient * adapter(c.name)[0] for c in entries), np.zeros((2, 5)))
    B = sum((c.coefficient * adapter(c.name)[1] for c in entries), np.zeros((4, 2)))
    return A, B


def mixed(entries: tuple[Entry, ...]) -> np.ndarray:
    """Mixture, unrolled: dW = sum c_k B_k A_k."""
    return sum((c.coefficient * adapter(c.name)[1] @ adapter(c.name)[0] for c in entries), np.zeros((4, 5)))


scales = st.floats(-1.5, 1.5)


@given(st.lists(st.tuples(scales, scales), min_size=1, max_size=5))
def test_one_contribution_after_the_other_is_equations_3_and_4(steps: list[tuple[float, float]]) -> None:
    model = item("")
    A, B, dW = np.zeros((2, 5)), np.zeros((4, 2)), np.zeros((4, 5))
    for number, (w, w_new) in enumerate(steps):
        name = f"site{number}"
        contribution = replace(model, contributions=(*model.contributions, entry(name, "1", 1.0)))
        plan = plan_merge(model, model, contribution)
        model = replace(model, contributions=combine(plan, w, w_new))
        A_new, B_new = adapter(name)
        A, B = w * A + w_new * A_new, w * B + w_new * B_new
        dW = w * dW + w_new * (B_new @ A_new)
    for unrolled, recursive in zip((*fused(model.contributions), mixed(model.contributions)), (A, B, dW),
                                   strict=True):  # fmt: skip
        np.testing.assert_allclose(unrolled, recursive, atol=1e-4)  # six decimals a merge


@given(scales, scales, st.lists(scales, min_size=4, max_size=4))
def test_two_merged_models_merge_as_models(w: float, w_other: float, c: list[float]) -> None:
    """A branch that holds several contributions enters with its own coefficients, scaled by w'."""
    ours = item(f"a:1*{c[0]:f} b:1*{c[1]:f}")
    theirs = item(f"c:1*{c[2]:f} d:1*{c[3]:f}")
    merged = combine(plan_merge(None, ours, theirs), w, w_other)
    for unrolled, mine, other in zip(
        (*fused(merged), mixed(merged)),
        (*fused(ours.contributions), mixed(ours.contributions)),
        (*fused(theirs.contributions), mixed(theirs.contributions)),
        strict=True,
    ):
        np.testing.assert_allclose(unrolled, w * mine + w_other * other, atol=1e-4)


def test_keep_ours_is_exactly_ours() -> None:
    ours = item("a:1*.123456 b:1*.654321")
    merged = combine(plan_merge(item("a:1*.5"), ours, item("a:1*.3 c:1*.9")), 1.0, 0.0)
    assert spell(merged) == "a:1*0.123456 b:1*0.654321 c:1*0"


def test_coefficients_are_rounded() -> None:
    [merged] = combine(plan_merge(None, item("a:1*.333333"), item("")), 1 / 3, 1.0)
    assert merged.coefficient == 0.111111


modules = ("q", "v")


@given(st.lists(st.tuples(scales, scales), min_size=1, max_size=4), scales, scales)
def test_coefficients_per_module_follow_the_recursion_module_by_module(
    steps: list[tuple[float, float]], first_q: float, first_v: float
) -> None:
    """As Eq. 4 in each adapted layer: module m of contribution k starts from its own c_k[m]."""
    model = ForgeItem(BASE, "mixture", (replace(entry("site", "1", 1.0), coefficient={"q": first_q, "v": first_v}),))
    dW = {"q": first_q * mixed(item("site:1*1").contributions), "v": first_v * mixed(item("site:1*1").contributions)}
    for number, (w, w_new) in enumerate(steps):
        new = entry(f"site{number}", "1", 1.0)
        plan = plan_merge(model, model, replace(model, contributions=(*model.contributions, new)))
        model = replace(model, contributions=combine(plan, w, w_new))
        A_new, B_new = adapter(new.name)
        dW = {module: w * dW[module] + w_new * (B_new @ A_new) for module in modules}
    for module in modules:
        alone = tuple(
            replace(
                found,
                coefficient=found.coefficient[module] if isinstance(found.coefficient, dict) else found.coefficient,
            )
            for found in model.contributions
        )
        np.testing.assert_allclose(mixed(alone), dW[module], atol=1e-4)


def task_aware(text: str) -> ForgeItem:
    plain = item(text)
    entries = tuple(replace(found, tasks={"breast": 0.5}) for found in plain.contributions)
    return replace(plain, contributions=entries, scores=(TaskScore("breast", ("a", "b"), 1, 1.0, 0.0),))


def test_coefficients_found_take_the_place_of_those_before() -> None:
    plan = plan_merge(None, task_aware("b:1*.5 c:1*.5"), task_aware("a:1*.5"))
    found = {"a": {"m": 0.1}, "b": 0.2, "c": {"m": 0.3}}
    by_task = {"lung": {"a": 1.0, "b": {"m": 2.0}, "c": 3.0}}
    entries = entries_with(plan, found, by_task)
    assert [each.name for each in entries] == ["a", "b", "c"]
    assert {each.name: each.coefficient for each in entries} == found
    assert [each.tasks for each in entries] == [{"lung": 1.0}, {"lung": {"m": 2.0}}, {"lung": 3.0}]
    assert {identity(each) for each in entries} == {identity(each) for each in (*plan.ours, *plan.theirs)}
    assert all(each.tasks == {} for each in entries_with(plan, found))
    assert all(each.tasks == {} for each in combine(plan, 1.0, 1.0))


def test_union_of_richer_recipes_is_a_recipe_of_any_strategy() -> None:
    """One side went to mixture-output, which has no place for coefficients per module; no task is scored."""
    modules = item("a:1*1")
    before = replace(modules, contributions=tuple(replace(e, coefficient={"m": 0.5}) for e in modules.contributions))
    merged = union(before, task_aware("a:1*.5 b:1*.5"), item("a:1*.5 c:1*.4", "mixture-output"))
    assert merged.strategy == "mixture-output" and spell(merged.contributions) == "a:1*1 b:1*1 c:1*1"
    assert merged.tasks == ()


# Laws that hold for any three recipes.

versions = st.dictionaries(st.sampled_from("abcde"), st.sampled_from("123"))


def of(versions_by_name: dict[str, str], coefficient: float = 1.0) -> ForgeItem:
    entries = (entry(name, version, coefficient) for name, version in versions_by_name.items())
    return ForgeItem(BASE, "mixture", tuple(entries))


def result(plan: MergePlan) -> set[tuple[str, tuple[str, str, str]]]:
    return {(found.name, identity(found)) for found in combine(plan, 1.0, 1.0)}


def try_merge(ancestor: ForgeItem, ours: ForgeItem, theirs: ForgeItem) -> MergePlan | None:
    try:
        return plan_merge(ancestor, ours, theirs)
    except MergeConflict:
        return None


@given(versions, versions, versions)
def test_sides_are_symmetric(ancestor: dict[str, str], ours: dict[str, str], theirs: dict[str, str]) -> None:
    one = try_merge(of(ancestor), of(ours), of(theirs))
    other = try_merge(of(ancestor), of(theirs), of(ours))
    assert (one is None) == (other is None)
    if one and other:
        assert result(one) == result(other)


@given(versions, versions, versions)
def test_agrees_with_a_merge_of_each_name_alone(
    ancestor: dict[str, str], ours: dict[str, str], theirs: dict[str, str]
) -> None:
    """The textbook rule, name by name: equal sides, or the side that changed."""
    expected = {}
    for name in "abcde":
        before, mine, other = ancestor.get(name), ours.get(name), theirs.get(name)
        assume(mine == other or before in (mine, other))
        if version := (mine if before == other or mine == other else other):
            expected[name] = version
    plan = plan_merge(of(ancestor), of(ours, 0.25), of(theirs, 0.75))
    assert result(plan) == result(plan_merge(None, of(expected), of({})))
    assert all(found.coefficient == 0.25 for found in plan.ours)
    assert all(found.coefficient == 0.75 for found in plan.theirs)
    names = [*(found.name for found in plan.ours), *(found.name for found in plan.theirs), *plan.removed]
    assert len(set(names)) == len(names)
    assert set(plan.removed) == set(ours) - set(expected)
    assert plan.ours == tuple(sorted(plan.ours, key=lambda found: found.name))


@given(versions, versions)
def test_merging_what_did_not_change(ancestor: dict[str, str], side: dict[str, str]) -> None:
    before, changed = of(ancestor), of(side, 0.5)
    assert plan_merge(before, changed, changed).ours == changed.contributions  # both did the same
    assert plan_merge(before, changed, before).ours == changed.contributions  # theirs did nothing
    forward = plan_merge(before, before, changed)  # ours did nothing
    assert result(forward) == {(found.name, identity(found)) for found in changed.contributions}


@given(versions, versions, versions)
def test_union_agrees_with_a_merge_without_conflicts(
    ancestor: dict[str, str], ours: dict[str, str], theirs: dict[str, str]
) -> None:
    merged = union(of(ancestor), of(ours), of(theirs))
    assert {*merged.names} <= {*ours, *theirs}
    plan = try_merge(of(ancestor), of(ours), of(theirs))
    if plan:
        assert {(found.name, identity(found)) for found in merged.contributions} == result(plan)


# What a person settles, or a git without the driver.


@given(versions, versions, versions)
def test_the_plan_of_a_tree_that_git_merged_is_that_of_the_driver(
    ancestor: dict[str, str], ours: dict[str, str], theirs: dict[str, str]
) -> None:
    plan = try_merge(of(ancestor), of(ours, 0.5), of(theirs, 0.25))
    assume(plan is not None)
    assert plan is not None
    tree = (replace(each, coefficient=1.0) for each in (*plan.theirs, *plan.ours))
    assert plan_of_tree(tree, of(ours, 0.5), [of(theirs, 0.25)], plan.base, plan.strategy) == plan


def test_the_plan_of_a_tree_with_what_neither_side_has() -> None:
    ours, others = item("a:1*.5 b:1*.5"), [item("a:2*.3 c:1*.3"), item("c:2*.2 d:1*.2")]
    plan = plan_of_tree(item("a:3*1 b:1*1 c:2*1 d:1*1").contributions, ours, others, BASE, "fusion")
    assert (spell(plan.ours), spell(plan.theirs), plan.removed) == ("b:1*0.5", "a:3*1 c:2*0.2 d:1*0.2", ())
    assert plan_of_tree((), ours, others, BASE, "mixture").removed == ("a", "b")
    with pytest.raises(MergeConflict, match="differ only in upper and lower case"):
        plan_of_tree([entry("Lung", "1", 1.0), entry("lung", "2", 1.0)], ours, others, BASE, "mixture")


def test_files_of_two_sides_put_together() -> None:
    one, other = item("a:1*1"), item("a:2*1")
    mine, their = one.contributions[0], replace(other.contributions[0], distilled="e" * 40)
    other = replace(other, contributions=(their,))
    assert put_together(replace(mine, distilled="e" * 40), one, other)
    assert put_together(replace(their, distilled=mine.distilled), one, other)
    assert not put_together(mine, one, other) and not put_together(their, one, other)
    assert not put_together(replace(mine, distilled="f" * 40), one, other)  # somebody's own third version
    assert not put_together(mine, one, item(""))
