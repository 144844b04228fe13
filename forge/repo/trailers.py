"""Trailers of a commit message, so that plain `git log` reads as the history of the model.

They repeat for people what the forge item holds; nothing ever reads them back, but to see that they do repeat it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from forge.errors import ForgeError
from forge.git.places import INDEX, described
from forge.git.quiet import quiet
from forge.git.running import Repository, git, git_succeeds, git_text, read_paths, run_git
from forge.recipe.item import ForgeItem, TaskScore
from forge.recipe.item_text import MAX_BYTES, NOTE_KEY, from_json
from forge.recipe.layout import ITEM_FILE
from forge.recipe.wording import coefficient_words, strategy_words
from forge.repo.items import find_item
from forge.repo.message_file import TRAILER, made_on, without_trailers
from forge.text import printable

# No trailer.KEY.* of the user's (another name, a command that adds more) has a say in ours: git finds no settings.
_NO_SETTINGS = {
    "GIT_DIR": os.devnull,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_COUNT": "0",
    "GIT_CONFIG_PARAMETERS": "",
}


def trailer_lines(item: ForgeItem, previous: ForgeItem | None) -> list[str]:
    """The trailers of the commit that makes `item` out of `previous` (None: there was no model)."""
    return _lines(item, _removed(item, previous))


def _removed(item: ForgeItem, previous: ForgeItem | None) -> list[str]:
    return [name for name in previous.names if item.entry(name) is None] if previous is not None else []


def _lines(item: ForgeItem, removed: Sequence[str]) -> list[str]:
    lines = [f"Forge-Strategy: {strategy_words(item)}"]
    lines += [
        f"Forge-Contribution: {entry.name} {coefficient_words(entry.coefficient)}" for entry in item.contributions
    ]
    lines += [f"Forge-Removed: {name}" for name in removed]
    lines += [f"Forge-Score: {_score(score)}" for score in item.scores]
    lines += [f"Forge-Accepted: {task}, which loses more than the gate allows" for task in item.accepted]
    return lines


def write_trailers(repo: Repository, message_file: Path, source: str | None) -> None:
    """For the prepare-commit-msg hook: bring the trailers of a message up to what is being committed.

    source: the hook's second argument. With "commit" the commit is amended, and compared with its parent;
    else the index is compared with HEAD. Older trailers of ours go, wherever they stand (a squash gathers
    those of several commits); new ones come only where the forge item changes. Doing it again changes nothing.
    Comments and git's own sections stay. A message that is yet to be written in an editor gets none: leaving
    it empty must still abort the commit.
    """
    item, removed, is_new = _staged(repo, made_on(source))
    text = os.fsdecode(message_file.read_bytes())
    stripped = without_trailers(text)
    needs_trailers = source not in (None, "template") and item is not None and is_new
    if needs_trailers and stripped and not stripped.endswith("\n"):
        stripped += "\n"
    if stripped != text:
        message_file.write_bytes(os.fsencode(stripped))
    if item is None or not needs_trailers:
        return
    args = ["interpret-trailers", "--in-place", "--no-divider", "--where=end", "--if-exists=add", "--if-missing=add"]
    for line in _lines(item, removed):
        args += ["--trailer", line]
    run_git(repo, *_comments(repo), *args, str(message_file.absolute()), variables=_NO_SETTINGS)


def _staged(repo: Repository, before: str) -> tuple[ForgeItem | None, list[str], bool]:
    """The forge item in the index, the contributions that the one of `before` had beside, and whether it is another.

    Both are read by one git. Who commits waits for this: that of `before` is checked only where a name in it is gone.
    """
    texts = read_paths(repo, [("", ITEM_FILE), (before, ITEM_FILE)], MAX_BYTES)
    text, text_before = texts.get(("", ITEM_FILE)), texts.get((before, ITEM_FILE))
    item = find_item(repo, INDEX) if text is None else from_json(text, described(INDEX, ITEM_FILE))
    if item is None or text_before is None:
        previous = _item_of(repo, before)
    elif text is not None and _are_other_recipes(text, text_before) and {*item.names} >= _names_in(text_before):
        return item, [], True
    else:
        previous = _whole(text_before)
    return item, _removed(item, previous) if item is not None else [], item != previous


def _are_other_recipes(one: bytes, other: bytes) -> bool:
    """Whether two texts, the first of them that of a whole forge item, are not of one recipe, as far as that is plain.

    One recipe has one text, but for the ends of its lines, and the note that earlier versions had not.
    """
    plain = [text.replace(b"\r\n", b"\n") for text in (one, other)]
    return plain[0] != plain[1] and len({NOTE_KEY.encode() in text for text in plain}) == 1


def _names_in(text: bytes) -> set[str]:
    """The names of the contributions in the text of a forge item, whatever else is wrong with it."""
    try:
        names = json.loads(text)["contributions"]
        return {*names} if isinstance(names, dict) else set()
    except (ValueError, TypeError, KeyError, RecursionError):
        return set()  # a damaged one, which names nobody


def _comments(repo: Repository) -> tuple[str, ...]:
    """The one setting that the message itself depends on, as an argument: with what a comment begins."""
    character = git_text(repo, "config", "--get", "core.commentChar", check=False)
    return ("-c", f"core.commentChar={character}") if character else ()


def trailer_problems(repo: Repository, commits: Sequence[str]) -> list[str]:
    """Where the message of a commit (a full id) says what its forge item does not, one line each.

    A message may leave trailers out, and repeat what an earlier one said of the same model; it may not make anything
    up. The message is what people read: a figure by hand would be believed.
    """
    problems = []
    for commit, parent, lines in _messages(repo, commits):
        item, previous = _item_of(repo, commit), _item_of(repo, parent) if parent else None
        known = set(trailer_lines(item, previous)) if item is not None else set()
        made_up = [line for line in lines if line not in known]
        if made_up:
            problems.append(
                f"the message of {commit[:10]} says what its forge item does not: {printable(made_up[0])[:200]}"
            )
    return problems


def _messages(repo: Repository, commits: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
    """(commit, its first parent or "", the lines that look like trailers of ours) of those that have any."""
    if not commits:
        return
    log = git(
        repo, *quiet("log"), "--no-walk=unsorted", "--stdin", "--format=%x00%H %P%n%B",
        input="".join(f"{commit}\n" for commit in commits).encode(),
    )  # fmt: skip
    for record in log.decode("utf-8", "replace").split("\0")[1:]:
        head, _, message = record.partition("\n")
        commit, _, parents = head.partition(" ")
        lines = [line.rstrip() for line in message.split("\n") if TRAILER.match(line)]
        if lines:
            yield commit, parents.partition(" ")[0], lines


def _score(score: TaskScore) -> str:
    accuracy, loss = f"{score.accuracy:.3f}", f"{score.cross_entropy:.3f}"
    if score.accuracy_before is not None:
        accuracy = f"{score.accuracy_before:.3f} -> {accuracy}"
    if score.cross_entropy_before is not None:
        loss = f"{score.cross_entropy_before:.3f} -> {loss}"
    return f"{score.task} accuracy {accuracy}, cross-entropy {loss} (distilled images)"


def _item_of(repo: Repository, rev: str) -> ForgeItem | None:
    """The forge item of a revision; None where there is none, or none that can be read."""
    if not git_succeeds(repo, "rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}"):
        return None
    try:
        return find_item(repo, rev)
    except ForgeError:
        return None


def _whole(text: bytes) -> ForgeItem | None:
    try:
        return from_json(text)
    except ForgeError:  # a damaged one is replaced by this commit, which may be what mends it
        return None
