"""What git stores and commits is what git forge checked; or all is as it was, and whoever came between is named."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from histories.conftest import Files
from sample_models import adapter
from story.hospitals import ITEM, forge, forge_ok, git_ok, write_contribution
from story.snapshots import assert_refused, snapshot

ADAPTER = "contributions/breast/adapter_model.safetensors"
CONFIG = "contributions/breast/adapter_config.json"
CARD = "contributions/breast/card.toml"


def _shouts(top: Path, attributes: Path, line: str) -> None:
    """A filter of somebody else's, which stores another text."""
    git_ok(top, "config", "filter.other.clean", "printf 'instead of %s' ")
    attributes.parent.mkdir(exist_ok=True)
    attributes.write_text(line)


Act = Callable[[Path], object]
FILTERS: dict[str, tuple[Act, str]] = {
    "info/attributes": (
        lambda top: _shouts(top, top / ".git/info/attributes", "*.safetensors filter=other\n"), ADAPTER),
    "a sub-folder": (
        lambda top: _shouts(top, top / "contributions/breast/.gitattributes", "*.safetensors filter=other\n"), ADAPTER),
    "of the configuration": (
        lambda top: _shouts(top, top / ".git/info/attributes", "adapter_config.json filter=other\n"), CONFIG),
    "of the card": (lambda top: _shouts(top, top / ".git/info/attributes", "*.toml filter=other\n"), CARD),
    "an encoding": (
        lambda top: _shouts(top, top / ".git/info/attributes", "card.toml text=auto ident\n"), CARD),
    "git-lfs of this clone alone": (
        lambda top: (
            git_ok(top, "lfs", "install", "--local", "--skip-repo"),
            (top / ".git/lfs").mkdir(),
            _shouts(top, top / ".git/info/attributes", "*.safetensors filter=lfs\n"),
        ), ADAPTER),
}  # fmt: skip


@pytest.mark.parametrize("case", FILTERS)
def test_a_filter_that_outranks_ours(model: Path, contributions: Files, case: str) -> None:
    write_contribution(model, "breast", contributions["breast"])
    if case == "an encoding":
        (model / CARD).write_bytes(contributions["breast"]["card.toml"] + b"# $Id: by hand $\n")
    act, path = FILTERS[case]
    act(model)
    before = snapshot(model, objects=False)
    said = forge(model, "commit")
    assert_refused(said, f"{path}: git would store something else", f"git check-attr --all -- {path}", "as it was")
    assert "breast/.gitattributes" in said.err if case == "a sub-folder" else "info/attributes" in said.err
    assert snapshot(model, objects=False) == before


def test_a_filter_of_the_user_where_ours_say_nothing(model: Path, contributions: Files, user_settings: Path) -> None:
    write_contribution(model, "breast", contributions["breast"])
    mine = user_settings.parent / "attributes"
    git_ok(model, "config", "--global", "core.attributesFile", str(mine))
    _shouts(model, mine, "*.toml filter=other\n")
    assert_refused(forge(model, "commit"), f"{CARD}: git would store something else", str(mine))


def test_what_is_no_file_of_the_model_may_be_stored_in_whatever_way(model: Path, contributions: Files) -> None:
    folder = write_contribution(model, "breast", contributions["breast"])
    (folder / "figure.png").write_bytes(b"\x89PNG")
    git_ok(model, "add", "--intent-to-add", str(folder / "figure.png"))
    _shouts(model, model / ".git/info/attributes", "*.png filter=other\n")
    forge_ok(model, "commit")
    assert git_ok(model, "show", "HEAD:contributions/breast/figure.png").startswith("instead of")


PRE_COMMIT = """\
#!/bin/sh
for file in {files}; do
    [ -f "$file" ] || continue
    printf '\\n' >>"$file"
    git add "$file"
done
"""
HOOKS = {
    "formats what is new": ("pre-commit", PRE_COMMIT.format(files=CONFIG), CONFIG),
    "formats the forge item": ("pre-commit", PRE_COMMIT.format(files=ITEM), ITEM),
    "formats the settings": ("pre-commit", PRE_COMMIT.format(files="forge.toml"), "forge.toml"),
    "takes something out": ("pre-commit", f"#!/bin/sh\ngit rm --quiet --cached {CARD}\n", CARD),
    "amends": (
        "post-commit",
        f"#!/bin/sh\n[ -f .git/once ] && exit\ntouch .git/once\necho >>{CARD}\ngit commit --quiet --amend -a -m mine\n",
        CARD,
    ),
}


def _hook(top: Path, name: str, text: str) -> Path:
    """A hook of somebody else's, where git forge keeps the ones that it runs beside its own, or else by itself."""
    hooks = top / ".git/hooks"
    hook = hooks / (f"{name}.before-forge" if (hooks / name).exists() else name)
    hook.write_text(text)
    hook.chmod(0o755)
    return hook


@pytest.mark.parametrize("case", HOOKS)
def test_a_hook_that_changes_what_is_committed(model: Path, contributions: Files, case: str) -> None:
    write_contribution(model, "breast", contributions["breast"])
    name, text, path = HOOKS[case]
    hook = _hook(model, name, text)
    before = snapshot(model, objects=False)
    said = forge(model, "commit")
    (model / ".git/once").unlink(missing_ok=True)
    assert_refused(said, f"{path}: the hook {hook} changed it", "as it was", "git forge commit again")
    assert snapshot(model, objects=False) == before
    hook.unlink()
    forge_ok(model, "commit")
    forge_ok(model, "verify", "--no-scores")


def test_a_hook_that_adds_something_else(model: Path, contributions: Files) -> None:
    write_contribution(model, "breast", contributions["breast"])
    _hook(model, "pre-commit", "#!/bin/sh\necho 1 >counter\ngit add counter\n")
    forge_ok(model, "commit")
    forge_ok(model, "verify", "--no-scores")
    assert git_ok(model, "show", "HEAD:counter") == "1"


@pytest.mark.parametrize("flag", ["--skip-worktree", "--assume-unchanged"])
@pytest.mark.parametrize("file", [ADAPTER, ITEM])
def test_files_that_git_was_told_to_leave_alone(pair: Path, contributions: Files, flag: str, file: str) -> None:
    git_ok(pair, "update-index", flag, file)
    write_contribution(pair, "breast", {"adapter_model.safetensors": adapter(7, name="breast")})
    # These models look at whole seconds and sizes alone, and both adapters may be written in one second.
    os.utime(pair / ADAPTER, (time.time() + 5, time.time() + 5))
    (pair / CARD).write_bytes((pair / CARD).read_bytes() + b"# twice\n")
    forge_ok(pair, "commit")
    forge_ok(pair, "verify", "--no-scores")
    assert git_ok(pair, "status", "--porcelain") == ""
    assert git_ok(pair, "show", f"HEAD:{CARD}").endswith("# twice")
    stored = json.loads(git_ok(pair, "show", f"HEAD:{ITEM}"))["contributions"]["breast"]["adapter"]
    assert stored == git_ok(pair, "rev-parse", f"HEAD:{ADAPTER}")


def test_files_that_are_only_intended(model: Path, contributions: Files) -> None:
    write_contribution(model, "breast", contributions["breast"])
    plain = forge_ok(model, "status").out
    git_ok(model, "add", "--intent-to-add", "contributions")
    assert forge_ok(model, "status").out == plain
    forge_ok(model, "commit")
    forge_ok(model, "verify", "--no-scores")


def test_what_was_taken_out_of_the_index_alone(pair: Path) -> None:
    git_ok(pair, "rm", "--quiet", "--cached", ADAPTER)
    before = snapshot(pair, objects=False)
    assert_refused(forge(pair, "commit"), "there is nothing to commit", "git restore --staged")
    assert snapshot(pair, objects=False) == before


def test_a_card_with_the_line_ends_of_another_system(model: Path, contributions: Files) -> None:
    git_ok(model, "config", "core.safecrlf", "true")
    git_ok(model, "config", "core.autocrlf", "true")
    files = dict(contributions["breast"])
    for name in ("card.toml", "adapter_config.json"):
        files[name] = files[name].replace(b"\n", b"\r\n")
    write_contribution(model, "breast", files)
    forge_ok(model, "commit")
    forge_ok(model, "verify", "--no-scores")
    assert "\r" not in git_ok(model, "cat-file", "blob", f"HEAD:{CARD}")
