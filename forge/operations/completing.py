"""Lines of .gitattributes that a later git forge needs, brought into an older model repository by a commit.

Only by a commit, which carries them to everybody together with the files that they speak of: written by what merely
makes files, they would lie uncommitted in the work tree and stand in the way of the next merge.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from forge.git.places import read_file
from forge.git.running import Repository, git_text
from forge.recipe.layout import ATTRIBUTES_FILE
from forge.repo.storage import MAX_ATTRIBUTES, read_attributes, storage_of, with_missing_rows, write_attributes
from forge.trust.rights import SITES_FILE


@contextmanager
def completed_attributes(repo: Repository, head: str) -> Iterator[list[str]]:
    """Let .gitattributes name every file of a model; as it was again where the block fails and makes no commit.

    Gives what a commit is to take along: .gitattributes, where it is that of `head` with nothing but such lines added.
    Nothing is done where it is not there, nor where `head` says who may change what: there a hospital's commit must
    touch nothing beside its contribution, and a maintainer's `git forge storage git` (or lfs) adds the lines.
    """
    before = read_attributes(repo)
    if not before or read_file(repo, head, SITES_FILE) is not None:
        yield []
        return
    storage = storage_of(repo)
    after = with_missing_rows(before, storage)
    committed = os.fsdecode(read_file(repo, head, ATTRIBUTES_FILE, MAX_ATTRIBUTES) or b"")
    is_ours = after != committed and after == with_missing_rows(committed, storage)
    if after != before:
        write_attributes(repo, after)
    try:
        yield [ATTRIBUTES_FILE] if is_ours else []
    except BaseException:
        if after != before and git_text(repo, "rev-parse", "HEAD") == head:
            write_attributes(repo, before)
        raise
