"""git forge review with the real driver and a model: what a merge would give is what it gives."""

from __future__ import annotations

import json
from pathlib import Path

from living.running import by_name, reviewed
from story.hospitals import (
    LABELS,
    contribute,
    contribution_files,
    git_ok,
    random_adapter,
    start_model,
)

from forge.model.base import BaseModel


def test_what_a_merge_would_give_is_what_it_gives(base_folder: Path, base: BaseModel, tmp_path: Path) -> None:
    top = start_model(tmp_path / "model", base_folder)
    for seed, name in enumerate(("breast", "lung")):
        contribute(top, name, contribution_files(base, name, adapter=random_adapter(seed)))
    git_ok(top, "merge", "--quiet", "--ff-only", "breast")

    found = reviewed(top, "main", "lung")
    assert (found["how"], found["problems"], found["strategy"]) == ("merge", [], "mixture")

    git_ok(top, "merge", "--quiet", "--no-edit", "lung")
    assert git_ok(top, "rev-parse", "HEAD^{tree}") == git_ok(top, "rev-parse", f"{found['merged']}^{{tree}}")
    item = json.loads((top / "forge-item.json").read_text())
    rows = by_name(found["contributions"])
    assert {name: row["after"] for name, row in rows.items()} == {
        name: entry["coefficient"] for name, entry in item["contributions"].items()
    }
    assert (rows["lung"]["change"], rows["lung"]["before"]) == ("added", None)
    assert (rows["lung"]["images"], rows["lung"]["by"]) == (4 * len(LABELS["lung"]), ["Ada Example"])
    files = (top / "contributions" / "lung").iterdir()
    assert rows["lung"]["size"] == sum(file.stat().st_size for file in files)
    assert found["search"]["objective_after"] == item["search"]["objective_after"]
    scores = by_name(found["scores"], "task")
    for task, score in item["scores"].items():
        for figure in ("accuracy", "accuracy_before", "cross_entropy"):
            assert scores[task][figure] == score[figure]
