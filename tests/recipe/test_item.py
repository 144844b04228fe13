"""The forge item: canonical bytes, digest, refusals, and the collision of any two edits in a text merge."""

from __future__ import annotations

import hashlib
import json
import math
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forge.errors import ForgeError
from forge.recipe import catalogue
from forge.recipe import item as recipe
from forge.recipe import item_text as recipe_text
from forge.recipe.checks import WITHOUT_WIDTH, check_name, check_text
from forge.recipe.item import Base, Consolidation, Entry, ForgeItem, Search, TaskScore
from forge.recipe.item_text import from_json, to_json

BASE = Base("embedded", "sha256:" + "0" * 64)
SEARCH = Search(
    "shiwa",
    "contribution",
    "cross-entropy",
    0.0,
    "Shiwa",
    0,
    40,
    0.5,
    1.5,
    0.05,
    {"theirs": 0.7, "ours": 0.9},
    0.81,
    0.52,
)
SCORE = TaskScore("breast", ("benign", "malignant"), 40, 0.95, 0.291, 0.5, 0.693)
ITEM = ForgeItem(
    BASE,
    "mixture",
    (Entry("lung", "a" * 40, "b" * 40, "c" * 40, 0.5), Entry("breast", "1" * 40, "2" * 40, "3" * 40, 0.25)),
    SEARCH,
    (SCORE,),
)

NOTE = '  "# conflict": "Not to be settled by hand: with git forge installed, run `git forge resolve`, '
NOTE += 'and go on as it says.",\n'
GOLDEN = (
    f"""\
{{
  "digest": "sha256:%s",
{NOTE}"""
    + """\
  "base": {
    "fingerprint": "sha256:0000000000000000000000000000000000000000000000000000000000000000",
    "reference": "embedded"
  },
  "contributions": {
    "breast": {
      "adapter": "1111111111111111111111111111111111111111",
      "coefficient": 0.25,
      "config": "2222222222222222222222222222222222222222",
      "distilled": "3333333333333333333333333333333333333333"
    },
    "lung": {
      "adapter": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
      "coefficient": 0.5,
      "config": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
      "distilled": "cccccccccccccccccccccccccccccccccccccccc"
    }
  },
  "format": 1,
  "scores": {
    "breast": {
      "accuracy": 0.95,
      "accuracy_before": 0.5,
      "cross_entropy": 0.291,
      "cross_entropy_before": 0.693,
      "images": 40,
      "labels": [
        "benign",
        "malignant"
      ]
    }
  },
  "search": {
    "bounds": 1.5,
    "evaluations": 40,
    "l1": 0.05,
    "method": "shiwa",
    "objective": "cross-entropy",
    "objective_after": 0.52,
    "objective_before": 0.81,
    "optimizer": "Shiwa",
    "per": "contribution",
    "pull": 0.0,
    "scales": {
      "ours": 0.9,
      "theirs": 0.7
    },
    "seed": 0,
    "start": 0.5
  },
  "strategy": "mixture"
}
"""
)


devices = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # of Windows: no folder is called so
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,6}[A-Za-z0-9_-]", fullmatch=True).filter(
    lambda name: not devices.fullmatch(name)
)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
shares = st.floats(0, 1)
blob_ids = st.integers(0, 2**160 - 1).map(lambda number: f"{number:040x}")
texts = st.text(
    st.characters(categories=["L", "N", "P", "S"], exclude_characters="".join(WITHOUT_WIDTH)), min_size=1, max_size=12
)
modules = st.dictionaries(texts, numbers, min_size=1, max_size=3)
searches = st.builds(
    Search,
    *(st.sampled_from(sorted(each)) for each in (catalogue.SEARCH_METHODS, catalogue.PER, catalogue.OBJECTIVES)),
    numbers, texts, st.integers(0, 9), st.integers(0, 99), numbers, numbers, numbers,
    st.dictionaries(names, numbers, max_size=2), st.none() | numbers, numbers,
)  # fmt: skip
scores = st.builds(
    TaskScore, texts, st.lists(texts, max_size=3).map(tuple), st.integers(0, 99), shares, numbers,
    st.none() | shares, st.none() | numbers,
)  # fmt: skip
consolidations = st.builds(
    Consolidation, blob_ids, blob_ids, st.integers(1, 99), numbers, st.integers(0, 9), numbers, numbers
)


@st.composite
def make_items(draw: st.DrawFn) -> ForgeItem:
    """Any forge item: with coefficients per module where the strategy has them, task-aware or not."""
    strategy = draw(st.sampled_from(sorted(catalogue.STRATEGIES)))
    coefficients = numbers if strategy == "mixture-output" else numbers | modules
    scored = draw(st.lists(scores, max_size=2, unique_by=lambda score: score.task))
    tasks = draw(st.lists(st.sampled_from([score.task for score in scored]), unique=True)) if scored else []
    entries = st.builds(
        Entry,
        names,
        blob_ids,
        blob_ids,
        blob_ids,
        coefficients,
        st.fixed_dictionaries(dict.fromkeys(tasks, coefficients)),
    )
    contributions = draw(st.lists(entries, max_size=3, unique_by=lambda entry: entry.name.lower()))
    return ForgeItem(
        draw(st.builds(Base, texts, texts)),
        strategy,
        tuple(contributions),
        draw(st.none() | searches),
        tuple(scored),
        draw(st.none() | consolidations) if contributions else None,
    )


items = make_items()


def with_digest(document: dict[str, Any]) -> str:
    """A forge item of any content whose digest is right: what a careful attacker would write."""
    body = {key: value for key, value in document.items() if key != "digest"}
    text = json.dumps(body, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    value = "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return json.dumps({"digest": value, **body}, ensure_ascii=False)


def test_canonical_text() -> None:
    text = to_json(ITEM)
    assert text == GOLDEN % text[22 : 22 + 64]
    assert from_json(text) == ITEM
    assert from_json(text.encode()) == ITEM


def test_a_file_of_an_earlier_version_has_no_note() -> None:
    document = json.loads(to_json(ITEM))
    del document["# conflict"]
    text = recipe_text.canonical({key: value for key, value in document.items() if key != "digest"})
    older = f'{{\n  "digest": "sha256:{hashlib.sha256(text.encode()).hexdigest()}",\n' + text.removeprefix("{\n")
    assert NOTE not in older and older == GOLDEN.replace(NOTE, "") % older[22 : 22 + 64]
    assert from_json(older) == ITEM


def test_who_opens_a_conflict_reads_what_to_do(tmp_path: Path) -> None:
    ours, theirs = replace(ITEM, strategy="fusion"), replace(ITEM, scores=())
    conflicts, merged = merge_as_text(tmp_path, to_json(ITEM), to_json(ours), to_json(theirs))
    assert conflicts > 0
    first, *_ = merged.partition(NOTE)
    assert first.count("\n") < 8 and "<<<<<<<" in first


def test_digest_is_that_of_the_other_lines() -> None:
    lines = to_json(ITEM).splitlines(keepends=True)
    rest = "".join([lines[0], *lines[2:]]).encode()
    assert lines[1] == f'  "digest": "sha256:{hashlib.sha256(rest).hexdigest()}",\n'
    assert recipe_text.digest(ITEM) in lines[1]


def test_empty_item() -> None:
    item = recipe.empty(BASE, "fusion")
    assert item.contributions == () and item.scores == () and item.search is None
    assert from_json(to_json(item)) == item


def test_identity_ignores_the_coefficient() -> None:
    entry = ITEM.contributions[0]
    assert recipe.identity(entry) == recipe.identity(replace(entry, coefficient=9.0))
    assert recipe.identity(entry) != recipe.identity(replace(entry, config="f" * 40))


def test_lookups_and_hash() -> None:
    assert ITEM.names == ("breast", "lung")
    assert ITEM.entry("lung") == ITEM.contributions[1] and ITEM.entry("colon") is None
    assert ITEM.score("breast") == SCORE and ITEM.score("colon") is None
    assert hash(ITEM) == hash(from_json(to_json(ITEM)))


@given(items)
def test_round_trip(item: ForgeItem) -> None:
    text = to_json(item)
    assert from_json(text) == item
    assert to_json(from_json(text)) == text


@given(items, st.randoms())
def test_order_of_construction_does_not_matter(item: ForgeItem, random: Any) -> None:
    shuffled = random.sample(item.contributions, len(item.contributions))
    assert to_json(replace(item, contributions=tuple(shuffled))) == to_json(item)


def test_coefficients_per_module_and_task() -> None:
    """Sorted by name and rounded; what there is none of is no key of the file."""
    modules = {"visual.b": 0.1234567, "visual.a": -0.0}
    entry = Entry("x", "a" * 40, "b" * 40, "c" * 40, modules, {"breast": {"m": 1}, "a task": 2})
    assert entry.coefficient == {"visual.a": 0.0, "visual.b": 0.123457}
    assert list(entry.tasks.items()) == [("a task", 2.0), ("breast", {"m": 1.0})]
    scored = (SCORE, replace(SCORE, task="a task"))
    item = ForgeItem(BASE, "fusion", (entry,), None, scored, Consolidation(**CONSOLIDATION))
    document = json.loads(to_json(item))
    assert document["contributions"]["x"]["coefficient"] == {"visual.a": 0.0, "visual.b": 0.123457}
    assert document["contributions"]["x"]["tasks"] == {"a task": 2.0, "breast": {"m": 1.0}}
    assert document["consolidation"] == CONSOLIDATION
    assert from_json(to_json(item)) == item and hash(from_json(to_json(item))) == hash(item)
    assert item.tasks == ("a task", "breast") and ITEM.tasks == recipe.empty(BASE, "fusion").tasks == ()
    plain = json.loads(to_json(ITEM))
    assert "consolidation" not in plain and "tasks" not in plain["contributions"]["lung"]


@given(numbers)
def test_coefficients_have_six_decimals(number: float) -> None:
    coefficient = Entry("x", "a" * 40, "b" * 40, "c" * 40, number).coefficient
    assert coefficient == round(number, 6)
    assert math.copysign(1, coefficient) == 1 or coefficient < 0


def merge_as_text(folder: Path, ancestor: str, ours: str, theirs: str) -> tuple[int, str]:
    """git's own text merge, without our driver: (number of conflicts, merged text)."""
    for name, text in (("ancestor", ancestor), ("ours", ours), ("theirs", theirs)):
        (folder / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["git", "merge-file", "-p", "ours", "ancestor", "theirs"],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout.decode()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items, st.sampled_from(["all", "coefficient", "module", "score", "strategy"]), items, items)
def test_any_two_edits_collide_in_a_text_merge(
    tmp_path: Path, ancestor: ForgeItem, kind: str, ours: ForgeItem, theirs: ForgeItem
) -> None:
    if kind == "coefficient":  # small edits far from each other, which a text merge would blend
        tasks = dict.fromkeys(ancestor.tasks, 1.0)
        first, last = Entry("00-1", *["1" * 40] * 3, 1.0, tasks), Entry("zz-1", *["2" * 40] * 3, 1.0, tasks)
        ours = replace(ancestor, contributions=(*ancestor.contributions, last))
        theirs = replace(ancestor, contributions=(*ancestor.contributions, first))
    elif kind == "score":
        ours = replace(ancestor, scores=(*ancestor.scores, TaskScore("a task of ours", (), 1, 1.0, 0.0)))
        theirs = replace(ancestor, search=None)
    elif kind == "strategy":
        ours = replace(ancestor, strategy="fusion")
    elif kind == "module" and ancestor.contributions and ancestor.strategy != "mixture-output":
        changed = [replace(ancestor.contributions[0], coefficient={"a": 0.1, "z": number}) for number in (0.2, 0.3)]
        ours, theirs = (replace(ancestor, contributions=(each, *ancestor.contributions[1:])) for each in changed)
    before, mine, other = to_json(ancestor), to_json(ours), to_json(theirs)
    conflicts, merged = merge_as_text(tmp_path, before, mine, other)
    if mine == other or before in (mine, other):
        assert conflicts == 0
    else:
        assert conflicts > 0
        with pytest.raises(ForgeError, match="merge conflict"):
            from_json(merged)


def test_blended_by_a_favouring_text_merge_is_refused(tmp_path: Path) -> None:
    """`git merge -Xours` without the driver leaves no conflict markers; the digest still tells."""
    ours = replace(ITEM, base=Base("elsewhere", BASE.fingerprint))
    theirs = replace(ITEM, strategy="fusion")
    merge_as_text(tmp_path, to_json(ITEM), to_json(ours), to_json(theirs))
    command = ["git", "merge-file", "-p", "--ours", "ours", "ancestor", "theirs"]
    merged = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    assert b"fusion" in merged and b"elsewhere" in merged
    with pytest.raises(ForgeError, match="merged as text"):
        from_json(merged)


def test_conflict_names_the_next_step() -> None:
    text = "<<<<<<< HEAD\n" + to_json(ITEM)
    with pytest.raises(ForgeError, match=r"^forge-item\.json: merge conflict") as caught:
        from_json(text)
    assert "git forge resolve" in str(caught.value.hint) and "git forge refold" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("[]", "not a JSON object"),
        ("{}", "names no format"),
        (b"\xff\xfe", "UTF-8"),
        (b"\x80\x04pickle", "UTF-8"),
        ('{"format": true}', "names no format"),
        ('{"format": 1}', "digest is missing"),
        (with_digest(json.loads(to_json(ITEM).replace("run `git", "run `sudo git"))), "that no git forge has written"),
        ('{"format": 1, "digest": 5}', "digest is missing"),
        ('{"format": 2, "anything": []}', "written by a newer git forge"),
        ('{"format": 1, "format": 1}', "'format' appears twice"),
        ('{"format": NaN}', "NaN"),
        ('{"format": -Infinity}', "-Infinity"),
        ('{"format": 1, "x": 1e999}', "1e999"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5000, "not valid JSON"),
        (" " * (recipe_text.MAX_BYTES + 1), "larger than"),
        (to_json(ITEM).replace("0.25", "0.35"), "edited by hand"),
        (to_json(ITEM).replace("mixture", "fusion"), "edited by hand"),
        (with_digest(json.loads(to_json(ITEM).replace("0.25", "0.25000001"))), "edited by hand"),
    ],
)
def test_refused_text(text: str | bytes, message: str) -> None:
    with pytest.raises(ForgeError, match=message) as caught:
        from_json(text, source="main:forge-item.json")
    assert caught.value.message.startswith("main:forge-item.json: ")


def edit(change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(to_json(ITEM))
    change(document)
    return with_digest(document)


CONSOLIDATION = {
    "adapter": "a" * 40, "config": "b" * 40, "steps": 40, "learning_rate": 1e-3, "seed": 0, "objective_before": 0.5,
    "objective_after": 0.4,
}  # fmt: skip


def with_tasks(document: dict[str, Any], tasks: dict[str, Any]) -> None:
    for entry in document["contributions"].values():
        entry["tasks"] = tasks


def output(document: dict[str, Any], coefficient: Any, tasks: Any) -> None:
    document["strategy"] = "mixture-output"
    for entry in document["contributions"].values():
        entry.update({"coefficient": coefficient} | ({"tasks": tasks} if tasks else {}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(extra=1), "unknown key 'extra' in the forge item"),
        (lambda d: d.pop("base"), "'base' is missing"),
        (lambda d: d.update(base=[]), "base must be a JSON object"),
        (lambda d: d["base"].update(reference=""), "reference must be text"),
        (lambda d: d["base"].update(fingerprint="a\x1b[2J"), "control character"),
        (lambda d: d["base"].update(reference="\ud800"), "control character"),
        (lambda d: d["base"].update(reference="a\u202eb"), "control character"),
        (lambda d: d["base"].update(reference="a" * 5000), "longer than"),
        (lambda d: d.update(strategy="soup"), "unknown strategy 'soup'"),
        (lambda d: d.update(strategy=[]), "unknown strategy"),
        (lambda d: d["contributions"].update({"../x": d["contributions"]["lung"]}), "cannot be the name"),
        (lambda d: d["contributions"].update({"Lung": d["contributions"]["lung"]}), "Lung and lung"),
        (lambda d: d["contributions"]["lung"].pop("config"), "'config' is missing in contribution 'lung'"),
        (lambda d: d["contributions"]["lung"].update(adapter="--upload-pack=x"), "not the id of a git blob"),
        (lambda d: d["contributions"]["lung"].update(distilled=None), "not the id of a git blob"),
        (lambda d: d["contributions"]["lung"].update(coefficient="1"), "must be a number"),
        (lambda d: d["contributions"]["lung"].update(coefficient=True), "must be a number"),
        (lambda d: d["contributions"]["lung"].update(coefficient=10**400), "not a finite number"),
        (lambda d: d["search"].update(seed=-1), "seed must be a whole number"),
        (lambda d: d["search"].update(evaluations=1.5), "evaluations must be a whole number"),
        (lambda d: d["search"].update(scales=[]), "scales must be a JSON object"),
        (lambda d: d["search"].update(method="soup"), "method must be one of shiwa, exact, joint, not 'soup'"),
        (lambda d: d["search"].update(per=[]), "per must be one of contribution, module"),
        (lambda d: d["search"].update(objective="held-out"), "objective must be one of cross-entropy, distillation"),
        (lambda d: d["search"].update(pull=None), "pull must be a number"),
        (lambda d: d["search"].pop("method"), "'method' is missing in search"),
        (lambda d: d["contributions"]["lung"].update(coefficient={}), "must name 1 to 4096 modules, not 0"),
        (
            lambda d: d["contributions"]["lung"].update(coefficient={f"m{n}": 1 for n in range(4097)}),
            "coefficient of contribution 'lung' must name 1 to 4096 modules, not 4097",
        ),
        (lambda d: d["contributions"]["lung"].update(coefficient={"m": "1"}), "for module 'm' must be a number"),
        (lambda d: d["contributions"]["lung"].update(coefficient={"m": {"m": 1}}), "for module 'm' must be a number"),
        (lambda d: d["contributions"]["lung"].update(coefficient={"m": 10**400}), "not a finite number"),
        (lambda d: d["contributions"]["lung"].update(coefficient={"a\nb": 1}), "control character"),
        (
            lambda d: d["contributions"]["lung"].update(coefficient={"": 1}),
            "a module in the coefficient of contribution",
        ),
        (lambda d: d["contributions"]["lung"].update(coefficient=[1]), "must be a number"),
        (lambda d: d["contributions"]["lung"].update(tasks={}), "tasks of contribution 'lung' says nothing"),
        (lambda d: d["contributions"]["lung"].update(tasks=[]), "tasks of contribution 'lung' must be a JSON object"),
        (lambda d: d["contributions"]["lung"].update(tasks={"breast": 1}), "coefficients for different tasks"),
        (lambda d: with_tasks(d, {"breast": True}), "for task 'breast' must be a number"),
        (lambda d: with_tasks(d, {"bone": 1}), "coefficients for 'bone', which has no score"),
        (lambda d: with_tasks(d, {"a\nb": 1}), "control character"),
        (lambda d: with_tasks(d, {str(n): 1 for n in range(4097)}), "more than 4096 tasks"),
        (lambda d: output(d, {"m": 1.0}, None), "one coefficient per module, but the strategy mixture-output"),
        (lambda d: output(d, 1.0, {"breast": {"m": 1.0}}), "one coefficient per module, but the strategy"),
        (lambda d: d.update(consolidation=None), "consolidation of the forge item says nothing"),
        (lambda d: d.update(consolidation={}), "'adapter' is missing in consolidation"),
        (lambda d: d.update(consolidation={**CONSOLIDATION, "steps": 0}), "steps must be a whole number of at least 1"),
        (
            lambda d: d.update(consolidation={**CONSOLIDATION, "adapter": "x"}),
            "adapter of the consolidation is not the id",
        ),
        (lambda d: d.update(consolidation={**CONSOLIDATION, "learning_rate": "1"}), "learning_rate must be a number"),
        (lambda d: d.update(consolidation=CONSOLIDATION, contributions={}), "a consolidation needs contributions"),
        (lambda d: d["search"].update(objective_before="x"), "objective_before must be a number"),
        (lambda d: d["scores"]["breast"].update(accuracy=1.01), "between 0 and 1"),
        (lambda d: d["scores"]["breast"].update(accuracy_before=-0.01), "between 0 and 1"),
        (lambda d: d["scores"]["breast"].update(labels="benign"), "must be a list"),
        (lambda d: d["scores"]["breast"].update(labels=[1]), "a label of the score of task 'breast'"),
        (lambda d: d["scores"].update({"a\nb": d["scores"]["breast"]}), "control character"),
    ],
)
def test_refused_content(change: Callable[[dict[str, Any]], object], message: str) -> None:
    with pytest.raises(ForgeError, match=message):
        from_json(edit(change))


@pytest.mark.parametrize("name", ["", ".", "..", "-x", ".git", "a/b", "a\\b", "a b", "é", "a\n", "x" * 65, 3, None])
def test_refused_names(name: object) -> None:
    with pytest.raises(ForgeError, match="cannot be the name"):
        check_name(name)


@pytest.mark.parametrize("name", ["aux", "NUL", "com1", "Lpt9.png", "con.a.b", "a.", "breast..", "prn"])
def test_names_that_no_folder_can_have_everywhere(name: str) -> None:
    with pytest.raises(ForgeError, match="no folder can have it on Windows"):
        check_name(name)


@pytest.mark.parametrize("name", ["auxiliary", "com", "com10", "console", "a.b", "nul_", "x-aux"])
def test_names_that_only_look_like_devices(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "hidden",
    [*"\u200b\u200d\u2060\ufeff\u00ad\u202e\u2066\u200f\u061c\u3164\ufe0f\u034f\U000e0041\x9b\x1b"],
)  # fmt: skip
def test_text_holds_nothing_that_nobody_sees(hidden: str) -> None:
    """Two labels that look the same are the same, and none turns the reading direction."""
    with pytest.raises(ForgeError, match="which nobody sees") as caught:
        check_text(f"benign{hidden} tissue", "a label")
    assert caught.value.message.isascii() and caught.value.message.isprintable()


@pytest.mark.parametrize("text", ["Mäuse", "肺腺癌", "سرطان الرئة", "µ ≥ 3 mm²", "e\u0301"])
def test_text_in_any_script_is_taken(text: str) -> None:
    assert check_text(text, "a label") == text


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_refused_numbers(number: float) -> None:
    with pytest.raises(ForgeError, match="not a finite number"):
        Entry("x", "a" * 40, "b" * 40, "c" * 40, number)


def test_doubled_scores_are_refused() -> None:
    with pytest.raises(ForgeError, match="same task: 'breast'"):
        replace(ITEM, scores=(SCORE, SCORE))
