"""The rule of who may change what, as a table: no git, no keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.errors import ForgeError
from forge.trust.rights import (
    NEWCOMERS,
    CommitFacts,
    Kind,
    Rights,
    contribution_of,
    read_rights,
    rights,
)

TEXT = """\
format = 1
maintainers = ["ada@c", "max@c"]
[sites]
breast = ["p@h1"]
lung = ["q@h2", "r@h2"]
"""
BASE = read_rights(TEXT)
NEW, OLD, GONE = "added", "modified", "deleted"
ITEM = {"forge-item.json": OLD}
BREAST = "contributions/breast/card.toml"
WEIGHTS = "contributions/breast/adapter_model.safetensors"


def facts(
    changes: Mapping[str, str], signer: str | None = None, removed: tuple[str, ...] = (), signature: str = ""
) -> CommitFacts:
    said = signature or ("none" if signer is None else "good")
    return CommitFacts("c0ffee" * 6 + "c0ff", signer, said, changes, frozenset(removed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "signer", "removed"),
    [
        ({}, None, ()),
        (ITEM, None, ()),
        ({BREAST: OLD, WEIGHTS: NEW, **ITEM}, "p@h1", ()),
        ({"contributions/breast/notes/any": "mode"}, "p@h1", ()),
        ({"contributions/lung/card.toml": GONE}, "r@h2", ()),
        ({"contributions/Breast/card.toml": NEW}, "p@h1", ()),  # one folder on a Mac
        ({BREAST: GONE, WEIGHTS: GONE, **ITEM}, "ada@c", ("breast",)),
        ({WEIGHTS: "stored otherwise", "contributions/lung/distilled.safetensors": "stored otherwise"}, "max@c", ()),
        ({"forge.toml": OLD, ".forge/sites.toml": OLD, ".github/workflows/x.yml": NEW}, "max@c", ()),
        ({"contributions/new/card.toml": NEW}, "ada@c", ()),
        ({BREAST: OLD, "consolidation/adapter_model.safetensors": GONE}, "p@h1", ()),
        ({"consolidation/adapter_model.safetensors": NEW}, "ada@c", ()),
    ],
)
def test_rightful(changes: Mapping[str, str], signer: str | None, removed: tuple[str, ...]) -> None:
    assert rights(BASE, [facts(changes, signer, removed)]) == ()


OWNED = "it belongs to p@h1"
MAINTAINED = "maintainers may change it: ada@c, max@c"


@pytest.mark.parametrize(
    ("changes", "signer", "removed", "problem"),
    [
        ({BREAST: OLD}, None, (), f"contributions/breast: not signed; {OWNED}"),
        ({BREAST: OLD}, "q@h2", (), f"contributions/breast: signed by q@h2; {OWNED}"),
        ({BREAST: OLD}, "P@h1", (), f"contributions/breast: signed by P@h1; {OWNED}"),
        (
            {BREAST: OLD}, "ada@c", (),
            f"contributions/breast: signed by ada@c; {OWNED}, and maintainers may take out the whole of it",
        ),
        (
            {BREAST: GONE}, "ada@c", (),
            f"contributions/breast: signed by ada@c; {OWNED}, and maintainers may take out the whole of it",
        ),
        ({BREAST: GONE}, "q@h2", ("breast",), f"contributions/breast: signed by q@h2; {OWNED}"),
        (
            {WEIGHTS: "stored otherwise", BREAST: OLD}, "max@c", (),
            f"contributions/breast: signed by max@c; {OWNED}, and maintainers may take out the whole of it",
        ),
        ({WEIGHTS: "stored otherwise"}, "q@h2", (), f"contributions/breast: signed by q@h2; {OWNED}"),
        ({"contributions/BREAST/x": NEW}, "q@h2", (), f"contributions/BREAST: signed by q@h2; {OWNED}"),
        ({"contributions/breast./x": NEW}, "q@h2", (), f"contributions/breast./x: signed by q@h2; {MAINTAINED}"),
        ({"forge.toml": OLD}, "p@h1", (), f"forge.toml: signed by p@h1; {MAINTAINED}"),
        ({"forge-item.json": "mode"}, None, (), f"forge-item.json: not signed; {MAINTAINED}"),
        ({"Contributions/breast/x": NEW}, "p@h1", (), f"Contributions/breast/x: signed by p@h1; {MAINTAINED}"),
        ({"contributions/breast": NEW}, "p@h1", (), f"contributions/breast: signed by p@h1; {MAINTAINED}"),
        ({"contributions/.x/y": NEW}, "p@h1", (), f"contributions/.x/y: signed by p@h1; {MAINTAINED}"),
        ({"contributions/.x": NEW}, "p@h1", (), f"contributions/.x: signed by p@h1; {MAINTAINED}"),
        ({"a\nb": NEW}, None, (), f"a\\nb: not signed; {MAINTAINED}"),
        (
            {f"{number}": NEW for number in range(6)}, None, (),
            f"0, 1, 2, 3 and 2 more: not signed; {MAINTAINED}",
        ),
        (
            {"consolidation/adapter_model.safetensors": GONE}, "p@h1", (),
            f"consolidation/adapter_model.safetensors: signed by p@h1; {MAINTAINED}",
        ),
        (
            {BREAST: OLD, "consolidation/adapter_model.safetensors": OLD}, "p@h1", (),
            f"consolidation/adapter_model.safetensors: signed by p@h1; {MAINTAINED}",
        ),
    ],
)  # fmt: skip
def test_refused(changes: Mapping[str, str], signer: str | None, removed: tuple[str, ...], problem: str) -> None:
    assert rights(BASE, [facts(changes, signer, removed)]) == (f"c0ffeec0ff {problem}",)


def test_each_thing_that_was_not_rightful_is_a_line() -> None:
    change = facts({BREAST: OLD, "contributions/lung/x": OLD, "README": OLD, "forge.toml": OLD, **ITEM}, "p@h1")
    assert rights(BASE, [change, facts({}), change]) == 2 * (
        "c0ffeec0ff contributions/lung: signed by p@h1; it belongs to q@h2, r@h2",
        f"c0ffeec0ff README, forge.toml: signed by p@h1; {MAINTAINED}",
    )


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        ("none", "not signed"),
        ("unknown key", "signed by a key that nobody is known by"),
        ("not valid then", "signed by a key that was not valid at its date"),
        ("other kind", "signed by another kind of key than SSH's"),
        ("refused", "its signature does not hold (altered, revoked, or not for git)"),
    ],
)
def test_no_signature_but_a_good_one_counts(signature: str, words: str) -> None:
    """Not even if somebody is said to have signed."""
    found = rights(BASE, [facts({BREAST: OLD}, "p@h1", signature=signature)])
    assert found == (f"c0ffeec0ff contributions/breast: {words}; {OWNED}",)


@pytest.mark.parametrize(
    ("newcomers", "signer", "rightful"),
    [
        ("maintainers", "ada@c", True),
        ("maintainers", "p@h1", False),
        ("maintainers", None, False),
        ("signers", "ada@c", True),
        ("signers", "somebody@h9", True),
        ("signers", None, False),
        ("anyone", "somebody@h9", True),
        ("anyone", None, True),
    ],
)
def test_newcomers(newcomers: str, signer: str | None, rightful: bool) -> None:
    base = read_rights(f'newcomers = "{newcomers}"\n{TEXT}')
    new = facts({"contributions/skin/card.toml": NEW}, signer)
    assert (rights(base, [new]) == ()) == rightful
    # What a newcomer has brought is not the next newcomer's.
    assert (rights(base, [new], ["skin"]) == ()) == (signer == "ada@c")
    assert rights(base, [facts({"contributions/lung/x": OLD}, signer)]) != ()
    assert (rights(base, [facts({"forge.toml": OLD}, signer)]) == ()) == (signer == "ada@c")


PRINCIPALS = ("ada@c", "max@c", "p@h1", "q@h2", "x@h9")
PATHS = (
    "forge-item.json", "forge.toml", ".forge/sites.toml", BREAST, WEIGHTS, "contributions/lung/card.toml",
    "contributions/skin/card.toml", "contributions/Lung/x", "consolidation/adapter_config.json",
)  # fmt: skip
KINDS: tuple[Kind, ...] = ("added", "modified", "deleted", "mode", "stored otherwise")
people = st.lists(st.sampled_from(PRINCIPALS), min_size=1, max_size=3, unique=True).map(tuple)
any_rights = st.builds(
    Rights,
    maintainers=people,
    sites=st.dictionaries(st.sampled_from(["breast", "lung", "skin"]), people),
    newcomers=st.sampled_from(NEWCOMERS),
)
any_commit = st.builds(
    facts,
    st.dictionaries(st.sampled_from(PATHS), st.sampled_from(KINDS)),
    st.none() | st.sampled_from(PRINCIPALS),
    st.lists(st.sampled_from(["breast", "lung", "skin"])).map(tuple),
)
some_commits = st.lists(any_commit, max_size=4)
standing = st.sets(st.sampled_from(["breast", "lung", "skin"]))


def about(problems: tuple[str, ...]) -> list[str]:
    """What they are about, without who may, in which a new name stands."""
    return [problem.partition(":")[0] for problem in problems]


@given(any_rights, some_commits, standing, st.data())
def test_a_right_more_is_never_a_problem_more(
    base: Rights, commits: list[CommitFacts], there: set[str], data: st.DataObject
) -> None:
    who = data.draw(st.sampled_from(PRINCIPALS))
    more = [replace(base, maintainers=(*base.maintainers, who))]
    more += [replace(base, sites={**base.sites, site: (*owners, who)}) for site, owners in base.sites.items()]
    more += [replace(base, newcomers=each) for each in NEWCOMERS[NEWCOMERS.index(base.newcomers) :]]
    before = about(rights(base, commits, there))
    for each in more:
        now = about(rights(each, commits, there))
        assert len(now) <= len(before) and all(
            set(problem.split(", ")) <= {word for old in before for word in old.split(", ")} for problem in now
        )


@given(any_rights, some_commits, standing)
def test_who_owns_everything_is_never_refused(base: Rights, commits: list[CommitFacts], there: set[str]) -> None:
    everything = replace(base, maintainers=("x@h9",), sites=dict.fromkeys(("breast", "lung", "skin"), ("x@h9",)))
    assert rights(everything, [replace(each, signer="x@h9", signature="good") for each in commits], there) == ()


@given(any_rights, some_commits, standing)
def test_who_has_no_right_changes_nothing_that_matters(
    base: Rights, commits: list[CommitFacts], there: set[str]
) -> None:
    """Unless newcomers may be anyone, every commit of a stranger that changes more than the forge item is refused."""
    base = replace(base, newcomers="maintainers")
    strangers = [replace(each, signer="nobody@else", signature="good") for each in commits]
    refused = {problem.split()[0] for problem in rights(base, strangers, there)}
    # The forge item alone, as a file, is what anyone may bring: it is made again.
    made_again = {("forge-item.json", kind) for kind in ("added", "modified", "deleted")}
    assert bool(refused) == any(set(each.changes.items()) - made_again for each in strangers)


@given(st.text(max_size=30))
def test_a_path_is_in_one_contribution_or_in_none(path: str) -> None:
    name = contribution_of(path)
    assert name is None or path.startswith(f"contributions/{name}/")
    assert contribution_of(f"contributions/breast/{path or 'x'}") == "breast"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "sites.toml: format must be 1, not None"),
        ("format = 2\nmaintainers = ['a']", "format must be 1, not 2"),
        ("format = true\nmaintainers = ['a']", "format must be 1, not True"),
        ("format = 1", "maintainers must be a list of 1 to 100 principals"),
        ("format = 1\nmaintainers = []", "maintainers must be a list"),
        ("format = 1\nmaintainers = 'a'", "maintainers must be a list"),
        ("format = 1\nmaintainers = [1]", "a principal is a text"),
        ("format = 1\nmaintainers = ['']", "a principal is a text of 1 to 255"),
        ("format = 1\nmaintainers = ['a b']", "'a b' is not one printable word"),
        ('format = 1\nmaintainers = ["a\\u202eb"]', "is not one printable word"),
        ('format = 1\nmaintainers = ["a\\u00a0b"]', "is not one printable word"),
        ("format = 1\nmaintainers = ['a']\nthreshold = -1", "threshold must be a whole number"),
        ("format = 1\nmaintainers = ['a']\nthreshold = 2", "threshold is 2, and there are 1 maintainers"),
        ("format = 1\nmaintainers = ['a', 'a']\nthreshold = 2", "threshold is 2, and there are 1 maintainers"),
        ("format = 1\nmaintainers = ['a']\nnewcomers = 'all'", "newcomers must be one of maintainers, signers, anyone"),
        ("format = 1\nmaintainers = ['a']\nthresh = 1", "unknown key 'thresh'"),
        ("format = 1\nmaintainers = ['a']\nsites = 1", r"\[sites\] must be a table"),
        ("format = 1\nmaintainers = ['a']\n[sites]\n'../x' = ['a']", "cannot be the name of a contribution"),
        ("format = 1\nmaintainers = ['a']\n[sites]\nx = []", r"\[sites\] x must be a list"),
        ("format = 1\nmaintainers = ['a']\n[sites]\nx = ['a']\nX = ['a']", "X and x are one folder on some machines"),
        ("format = 1\nmaintainers = ['a']\n[sites.x]\ny = 1", r"\[sites\] x must be a list"),
        ("format = 1\nformat = 1", "not valid TOML"),
    ],
)
def test_a_text_that_is_not_exactly_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ForgeError, match=message) as raised:
        read_rights(text)
    assert raised.value.message.startswith(".forge/sites.toml: ")


def test_what_is_read() -> None:
    assert Rights(("ada@c", "max@c"), {"breast": ("p@h1",), "lung": ("q@h2", "r@h2")}, 1, "maintainers") == BASE
    assert BASE.sites == {"breast": ("p@h1",), "lung": ("q@h2", "r@h2")}
    assert read_rights(b"format = 1\nmaintainers = ['*@c']\nthreshold = 0\nnewcomers = 'anyone'\n") == Rights(
        ("*@c",), {}, 0, "anyone"
    )
