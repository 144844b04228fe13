"""What of the contributions in the work tree no commit holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from forge.errors import ForgeError
from forge.git.places import WORK_TREE, read_file
from forge.git.running import BLOB_LIMIT, Repository
from forge.recipe.item import doubled_payloads
from forge.recipe.layout import ADAPTER_FILE, CARD_FILE, CONTRIBUTIONS, path_of, rows_in
from forge.recipe.toml_text import MAX_BYTES
from forge.repo.contributions import ContributionFiles, find_all


def uncommitted_contributions(repo: Repository, commit: str) -> list[str]:
    """The names of contributions that are not in the work tree as they are in `commit`, sorted; removed ones too."""
    committed, unreadable = find_all(repo, commit)
    here, unreadable_here = find_all(repo, WORK_TREE)
    return sorted(
        name
        for name in {*committed, *here, *unreadable, *unreadable_here}
        if name in unreadable_here
        or name not in here
        or name not in committed
        or here[name].blobs != committed[name].blobs
    )


def refused_in_work_tree(
    repo: Repository, here: Mapping[str, ContributionFiles], committed: Mapping[str, ContributionFiles]
) -> list[str]:
    """What `git forge commit` would refuse of contributions that are whole, one line each.

    here, committed: those of the work tree and of HEAD. What has not changed since is not read.
    """
    whole = {name: files for name, files in here.items() if not files.missing}
    payloads = [row.name for row in rows_in(CONTRIBUTIONS) if row.is_payload]
    times = Counter(files.blobs.get(file) for files in whole.values() for file in payloads)
    twice = [files for files in whole.values() if any(times[files.blobs.get(file)] > 1 for file in payloads)]
    problems = doubled_payloads([files.entry(1.0) for files in twice])
    for name, files in whole.items():
        if name in committed and committed[name].blobs == files.blobs:
            continue
        from forge.recipe.card import read_card  # of the few that changed
        from forge.repo.made_with import made_with_another

        card, weights = read_file(repo, None, path_of(name, CARD_FILE), MAX_BYTES), path_of(name, ADAPTER_FILE)
        try:
            if made_with_another(read_card(card or b""), read_file(repo, None, weights, BLOB_LIMIT) or b"", weights):
                problems.append(f"{path_of(name)}: the distilled set was made with another adapter")
        except ForgeError:
            continue  # git forge commit says what is wrong with the file
    return problems
