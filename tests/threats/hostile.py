"""Random trees of an attacker: each evil alone is one that a test elsewhere knows by name; here they come together.

Everything that leads out of the clone leads into the folder `outside`, or to a port that somebody listens at.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from living.traps import set_traps
from story.hospitals import ITEM, change_settings, git_ok
from threats.attacker import read, with_digest

from forge.recipe.item_text import to_json

# Clears a screen, sets a title, turns letters round, hides some, ends a line that looks like one of ours.
WORDS = "\x1b[2J\x1b]0;x\x07\u202eevil\u200b\u2066\x9b31m\r\nok: all is well\x7f"


@dataclass(frozen=True)
class Target:
    """top: the attacker's clone. outside: a folder with `secret`, `pipe` and `folder/` in it. url: of a listener."""

    top: Path
    outside: Path
    url: str

    def write(self, path: str, content: str | bytes) -> None:
        file = self.top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))

    def link(self, path: str, to: str) -> None:
        file = self.top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.symlink_to(self.outside / to)


def linked(path: str, to: str) -> Callable[[Target], None]:
    return lambda target: target.link(path, to)


def pointer(target: Target) -> None:
    oid = "6" * 64
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 4096\n"
    target.write("contributions/breast/adapter_model.safetensors", text)
    target.write(".lfsconfig", f"[lfs]\n\turl = {target.url}lfs\n\tlocksverify = true\n")
    attributes = target.top / ".gitattributes"
    if not attributes.is_symlink():
        attributes.write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n")


def base(reference: str) -> Callable[[Target], None]:
    def change(target: Target) -> None:
        path = target.top / "forge.toml"
        if path.is_file() and not path.is_symlink() and 'reference = "local:tiny"' in path.read_text():
            change_settings(target.top, 'reference = "local:tiny"', f'reference = "{reference}"')
        if reference.startswith("base"):
            target.write("base/open_clip_config.json", '{"model_cfg": {"text_cfg": {"hf_tokenizer_name": "."}}}')
            target.write("base/tokenizer.py", f"open({str(target.outside / 'ran')!r}, 'w')\n")

    return change


def submodule(target: Target) -> None:
    target.write(".gitmodules", f'[submodule "sub"]\n\tpath = sub\n\turl = {target.url}sub\n')
    git_ok(target.top, "update-index", "--add", "--cacheinfo", "160000," + "1" * 40 + ",sub")


def card(target: Target) -> None:
    path = target.top / "contributions" / "breast" / "card.toml"
    if path.is_file() and not path.is_symlink():
        told = "".join(c if c.isprintable() and c.isascii() else f"\\u{ord(c):04x}" for c in WORDS)
        path.write_text(f'{path.read_text()}\n[training]\nseed = "{told}"\nsource = "{told}"\n"{told}" = "{told}"\n')


def item(target: Target) -> None:
    path = target.top / ITEM
    if path.is_file() and not path.is_symlink():
        document = json.loads(to_json(read(target.top)))
        document["base"]["reference"] = f"{target.outside}/folder"
        document["contributions"][WORDS] = document["contributions"]["breast"]
        document["scores"]["breast"]["labels"] = [WORDS, "b"]
        path.write_text(with_digest(document))


EVILS: dict[str, Callable[[Target], None]] = {
    "forge.toml is a device": linked("forge.toml", "zero"),
    "forge.toml is a pipe": linked("forge.toml", "pipe"),
    ".gitattributes is a device": linked(".gitattributes", "zero"),
    "the item is a link": linked(ITEM, "secret"),
    "a card is a pipe": linked("contributions/breast/card.toml", "pipe"),
    "an adapter is a link": linked("contributions/breast/adapter_model.safetensors", "secret"),
    "a contribution is a link": linked("contributions/evil", "folder"),
    "an unfinished item is a link": linked(".forge-item.json.unfinished", "secret"),
    "rights are a link": linked(".forge/sites.toml", "pipe"),
    "signers are a link": linked(".forge/allowed_signers", "secret"),
    "git-lfs elsewhere": pointer,
    "a base of the branch": base("base"),
    "a base to download": base("hf-hub:evil/model"),
    "a base outside": base("../outside/folder"),
    "a base of a name and a tag": base("ViT-B-32/laion2b_s34b_b79k"),
    "a submodule": submodule,
    "a card that speaks": card,
    "an item that speaks": item,
    "a path that speaks": lambda target: target.write(f"contributions/breast/{WORDS.replace('/', '')}", "x"),
    "a contribution that speaks": lambda target: target.write(f"contributions/a{WORDS}/card.toml", "format = 1\n"),
    "rights of its own": lambda target: target.write(".forge/sites.toml", f'[sites]\n"{target.outside}" = ["*"]\n'),
    "signers of its own": lambda target: target.write(".forge/allowed_signers", "* ssh-ed25519 AAAA\n"),
    "names of others": lambda target: target.write(".mailmap", f"{WORDS} <ada@example.org>\nEve <eve@x> <ada@x>\n"),
    "traps": lambda target: set_traps(target.top, target.outside / "folder"),
    "no settings": lambda target: (target.top / "forge.toml").unlink(missing_ok=True),
    "no item": lambda target: (target.top / ITEM).unlink(missing_ok=True),
    "settings that speak": lambda target: target.write("forge.toml", f'format = 1\n"{target.outside}" = 1\n'),
    "a twin": lambda target: target.write("FORGE.TOML", "format = 1\n"),
}  # fmt: skip


def make_outside(folder: Path) -> Path:
    """What nobody may touch: a file, a device, a pipe that blocks whoever opens it, a folder."""
    (folder / "folder").mkdir(parents=True)
    (folder / "secret").write_text("a secret\n")
    (folder / "zero").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe")
    return folder


def spoil(target: Target, seed: int) -> list[str]:
    """Commit a random tree of the attacker's, past every hook and filter; the evils that are in it."""
    draw = random.Random(seed)
    evils = draw.sample(sorted(EVILS), draw.randint(1, 5))
    # A whole .gitattributes or an index entry of one evil must not be lost by another's.
    for name in sorted(evils, key=lambda name: name == "a submodule"):
        EVILS[name](target)
    off = ("core.hooksPath=/dev/null", *(f"filter.{name}.process=" for name in ("forge", "lfs")), "filter.lfs.clean=",
           *(f"filter.{name}.required=false" for name in ("forge", "lfs")))  # fmt: skip
    alone = [word for setting in off for word in ("-c", setting)]
    git_ok(target.top, *alone, "add", "--all", "--force", "--", ".", ":(exclude)sub")
    who = {f"GIT_{one}_NAME": f"Eve\x1b[1m{WORDS[:9]}" for one in ("AUTHOR", "COMMITTER")}
    git_ok(
        target.top, *alone, "commit", "--quiet", "--allow-empty", "-m", f"Add {WORDS}\n\nForge-Score: {WORDS}", **who
    )
    return evils
