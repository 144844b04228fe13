"""card.toml: round trip with unknown keys kept, and refusals that name the file."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.errors import ForgeError
from forge.recipe.card import Card, check_labels, read_card, to_toml, validation_split
from forge.recipe.checks import WITHOUT_WIDTH
from forge.recipe.item import Base

CARD = Card(
    task="breast",
    labels=("benign breast tissues", "malignant breast tumors"),
    base=Base("embedded", "sha256:0"),
    training={"seed": 0, "settings": {"rank": 16, "learning_rate": 0.01}},
    metrics={"accuracy": 0.91, "test": {"auc": 0.92}},
    privacy={"released": "an adapter and 40 distilled images"},
)
TEXT = """\
[task]
name = "breast"
labels = [
    "benign breast tissues",
    "malignant breast tumors",
]

[base]
reference = "embedded"
fingerprint = "sha256:0"

[training]
seed = 0

[training.settings]
rank = 16
learning_rate = 0.01

[metrics]
accuracy = 0.91

[metrics.test]
auc = 0.92

[privacy]
released = "an adapter and 40 distilled images"
"""


def test_text() -> None:
    assert to_toml(CARD) == TEXT
    assert read_card(TEXT) == CARD
    assert read_card(TEXT.encode()) == CARD
    assert hash(read_card(TEXT)) == hash(CARD)


def test_unknown_keys_are_kept() -> None:
    text = (
        "version = 3\n"
        + TEXT.replace("[base]", 'organ = "breast"\n\n[base]\nnote = "ours"')
        + "\n[contact]\nmail = 'a@b'\n"
    )
    assert tomllib.loads(to_toml(read_card(text))) == tomllib.loads(text)


COMMENTED = """\
# Ours, since 2024
license = "MIT"  # asked the board

[task] # what it is
name = "breast"
labels = [
    "benign breast tissues",     # B
    "malignant breast tumors",   # M
]

# of the model repository
[base]
reference = "embedded"
fingerprint = "sha256:0"

[training]
rank = 4   # more did not help
epochs = 3

[contact]  # who answers
mail = 'a@b'
# the end
"""


def test_comments_of_a_person_stay() -> None:
    card = read_card(COMMENTED)
    assert to_toml(card, COMMENTED) == COMMENTED
    changed = replace(
        card, task="breasts", training={"rank": 8, "seed": 1}, metrics={"auc": 0.5}, other={"license": "MIT"}
    )
    text = to_toml(changed, COMMENTED)
    assert read_card(text) == changed
    for kept in (
        "# Ours, since 2024\n",
        "# asked the board",
        "# what it is",
        "   # M\n]",
        "# of the model",
        "rank = 8   # ",
    ):
        assert kept in text
    assert to_toml(changed, text) == text


@pytest.mark.parametrize("before", ["", " \n", "no TOML", "x = [[" * 5000, "a.b = 1\n[a]\n"])
def test_a_text_without_comments_to_keep_is_made_anew(before: str) -> None:
    assert to_toml(CARD, before) == TEXT


comments = st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=9).map("# {}".format)
values = st.one_of(
    st.booleans(), st.integers(-9, 9), st.floats(-1, 1), st.text(max_size=3), st.lists(st.integers(0, 3))
)
tables = st.dictionaries(st.sampled_from("abc"), values)


@given(tables, tables, st.lists(comments, min_size=12, max_size=12))
def test_whatever_is_changed_the_values_are_right_and_comments_stay(
    before: dict[str, object], after: dict[str, object], notes: list[str]
) -> None:
    lines = to_toml(replace(CARD, training=before, metrics={})).splitlines()
    with_notes = "\n".join(f"{line} {note}" for line, note in zip(lines, notes, strict=False)) + "\n"
    card = replace(CARD, training=after, metrics={})
    text = to_toml(card, with_notes)
    assert read_card(text) == card
    assert all(note in text for note in notes[:8])  # those of [task] and [base], which stay as they are


def test_none_is_left_out() -> None:
    card = replace(CARD, metrics={"auc": None, "accuracy": 0.5})
    assert read_card(to_toml(card)).metrics == {"accuracy": 0.5}


labels = st.lists(
    st.text(
        st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="".join(WITHOUT_WIDTH)),
        min_size=1, max_size=9,
    ),
    min_size=2, max_size=5, unique_by=str.casefold,
)  # fmt: skip


@given(labels, st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_text_survives(texts: list[str], note: str) -> None:
    card = replace(CARD, labels=tuple(texts), training={"note": note})
    assert read_card(to_toml(card)) == card


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("benign", "must be a list of texts"),
        (None, "must be a list of texts"),
        ([], "0 given"),
        (["one"], "1 given, but a task has 2 to"),
        (["a", ""], "at least one visible character"),
        (["a", " \t"], "at least one visible character"),
        (["a", 3], "must be text"),
        (["a", "a"], "'a' is there twice"),
        (["benign tissue", " Benign  Tissue "], "is there twice"),
        (["STRASSE", "straße"], "is there twice"),
        (["a", "b" * 401], "longer than 400"),
        (["a", "b\nc"], "control character"),
    ],
)
def test_refused_labels(found: object, message: str) -> None:
    with pytest.raises(ForgeError, match=message):
        check_labels(found, "labels")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "breast"', "", r"\[task\] has no name"),
        ('name = "breast"', "name = 3", r"\[task\] name must be text"),
        ("labels =", "label =", r"\[task\] has no labels"),
        ('    "malignant breast tumors",\n', "", "1 given"),
        ('fingerprint = "sha256:0"', "", r"\[base\] has no fingerprint"),
        ("accuracy = 0.91", "accuracy = nan", "accuracy is not a finite number"),
        ("auc = 0.92", "auc = inf", "auc is not a finite number"),
        ("released =", "epsilon = 3\nreleased =", "epsilon without delta and accountant"),
        ("[privacy]", "[[privacy]]", r"\[privacy\] must be a table"),
        ("[task]", "[task", "not valid TOML"),
    ],
)
def test_refused(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(ForgeError, match=message) as caught:
        read_card(TEXT.replace(old, new), "contributions/breast/card.toml")
    assert caught.value.message.startswith("contributions/breast/card.toml: ")


@pytest.mark.parametrize(
    ("training", "split"),
    [
        ("validation_share = 0.3\nseed = 7", (0.3, 7)),
        ("", (0.2, 0)),
        ("validation_share = 'a third'\nseed = 'any'", (0.2, 0)),
        ("validation_share = 2.0\nseed = -1", (0.2, 0)),
        ("validation_share = nan\nseed = true", (0.2, 0)),
        ("validation_share = [0.3]\nseed = 1979-05-27", (0.2, 0)),
    ],
)
def test_the_split_that_a_card_tells_of(training: str, split: tuple[float, int]) -> None:
    """Whatever a stranger's card holds there, distilling can go on."""
    text = '[task]\nname = "x"\nlabels = ["a", "b"]\n[base]\nreference = "r"\nfingerprint = "f"\n[training]\n'
    assert validation_split(read_card(text + training)) == split
    assert validation_split(None) == (0.2, 0)
