"""Words of a branch that a terminal would obey: in a commit's subject and author, a card, a path, a label, a name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load
from story.conftest import Files
from story.hospitals import Said, card_text, change_settings, forge, git, git_ok, write_contribution
from threats.attacker import commit, hospital_files
from threats.hostile import WORDS, Target, item
from threats.hostile import card as add_words_to_card

from forge.model.base import BaseModel

# Each of these acts, hides or turns what follows; as other people's letters none of them is a mistake to keep out.
UNSEEN = ("\u202e", "\u2066", "\u200b", "\u200d", "\ufeff", "\x1b", "\x9b", "\x07")


def harmless(said: Said) -> str:
    text = said.out + said.err
    assert [c for c in text if not c.isprintable() and c != "\n"] == [], text
    assert not any(line.startswith("ok: all is well") for line in text.splitlines())
    return text


@pytest.fixture
def spoken(site: Path, tmp_path: Path) -> Path:
    """On the branch eve, whose one commit has WORDS for a subject and an author, and a card that is full of them."""
    git_ok(site, "switch", "--quiet", "-c", "eve")
    add_words_to_card(Target(site, tmp_path, ""))
    git_ok(site, "-c", f"user.name={WORDS[:5]}eve", "-c", "core.hooksPath=/dev/null", "commit", "-qam", f"Fix {WORDS}")
    return site


@pytest.mark.parametrize(
    "verb",
    ["verify", "show", "show --json", "log", "log --json", "diff main", "diff main --json", "status", "status --json",
     "review main", "review main --json", "sites", "export --format peft OUT"],
)  # fmt: skip
def test_no_verb_lets_them_through(spoken: Path, tmp_path: Path, verb: str) -> None:
    said = forge(spoken, *(str(tmp_path / "out") if word == "OUT" else word for word in verb.split()))
    text = harmless(said)
    assert said.code in (0, 1), text
    if verb == "verify":
        assert "Fix \\x1b[2J\\x1b]0;x\\x07\\u202eevil\\u200b\\u2066\\x9b31m" in text
    if verb == "show":
        assert "\\x1b[2J" in text  # the seed
    if verb.endswith("--json"):
        assert json.loads(said.out)


def test_evaluate_and_push(spoken: Path, tmp_path: Path, site_files: Files) -> None:
    arrays = load(site_files["breast"]["distilled.safetensors"])
    for number, (image, label) in enumerate(zip(arrays["images"], arrays["labels"], strict=True)):
        folder = tmp_path / "data" / ("benign breast tissues", "malignant breast tumors")[int(label)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.moveaxis(image, 0, -1)).save(folder / f"{number}.png")
    said = forge(spoken, "evaluate", "main", "eve", "--data", str(tmp_path / "data"))
    assert said.code == 0, harmless(said)
    harmless(said)
    git_ok(tmp_path, "init", "--quiet", "--bare", "origin.git")
    git_ok(spoken, "remote", "add", "origin", str(tmp_path / "origin.git"))
    item(Target(spoken, tmp_path, ""))
    commit(spoken, f"Forge {WORDS}")
    said = forge(spoken, "push")
    assert said.code == 128 and "does not verify, so it was not pushed" in harmless(said)
    assert git_ok(tmp_path / "origin.git", "for-each-ref") == ""


def test_a_path_below_contributions(site: Path) -> None:
    git_ok(site, "switch", "--quiet", "-c", "eve")
    (site / "contributions" / "breast" / f"{WORDS}.txt").write_text("x")
    folder = site / "contributions" / f"x{WORDS}"
    folder.mkdir()
    (folder / "card.toml").write_text("format = 1\n")
    for verb in (("status",), ("commit",), ("diff",)):
        harmless(forge(site, *verb))
    commit(site)
    for verb in (("verify",), ("status",), ("show",), ("diff", "main", "eve"), ("review", "main", "eve"), ("push",)):
        said = forge(site, *verb)
        assert "\\x1b[2J" in harmless(said) or verb[0] in ("diff", "push")
    assert forge(site, "verify").code == 1


@pytest.mark.parametrize("character", UNSEEN, ids=lambda c: f"U+{ord(c):04X}")
def test_what_nobody_sees_is_in_no_label_and_no_name(site: Path, base: BaseModel, character: str) -> None:
    """Two labels that look the same would be two classes; a name that looks like another's would be another's."""
    labels = ("benign breast tissues", f"malignant{character} breast tumors")
    files = hospital_files(base, "eve", 5)
    escaped = "".join(c if c.isascii() and c.isprintable() else f"\\u{ord(c):04x}" for c in labels[1])
    card = card_text("breast", labels, base.reference, base.fingerprint).decode()
    files["card.toml"] = card.replace(labels[1], escaped).encode()
    write_contribution(site, "eve", files)
    said = forge(site, "commit")
    assert said.code in (1, 128) and "card.toml" in harmless(said)
    git_ok(site, "checkout", "--quiet", "--", ".")
    git_ok(site, "clean", "-fdq")
    write_contribution(site, f"ev{character}e", hospital_files(base, "eve", 5))
    assert forge(site, "commit").code in (1, 128)
    commit(site)
    said = forge(site, "verify", "--no-scores")
    assert said.code == 1 and "contributions/: 'ev\\" in harmless(said)


def test_what_the_merge_driver_says(site: Path, site_files: Files) -> None:
    """git passes its words on, line by line; those of a forge item that is in the way are shown escaped."""
    git_ok(site, "switch", "--quiet", "-c", "eve")
    item(Target(site, site, ""))
    commit(site, f"Forge {WORDS}")
    git_ok(site, "switch", "--quiet", "--force", "main")
    write_contribution(site, "other", site_files["other"])
    assert forge(site, "commit").code == 0
    done = git(site, "merge", "--no-edit", "eve")
    assert done.returncode == 1
    harmless(Said(done.returncode, "", done.stderr))


def test_settings_by_the_side_of_words(site: Path) -> None:
    change_settings(site, "format = 1", 'format = 1\n"\\u001b[2J\\u202e" = "\\u001b"')
    for verb in (("status",), ("commit",)):
        said = forge(site, *verb)
        assert said.code == 128 and "forge.toml" in harmless(said)
