"""Plain `git log` reads as the history of the model."""

from __future__ import annotations

from pathlib import Path

from story.hospitals import Merged, git_ok, item


def trailers(top: Path, key: str, rev: str = "HEAD") -> list[str]:
    return git_ok(top, "log", "-1", f"--format=%(trailers:key={key},valueonly)", rev).splitlines()


def expected_scores(found: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    return [
        f"{task} accuracy {score['accuracy_before']:.3f} -> {score['accuracy']:.3f}, "
        f"cross-entropy {score['cross_entropy_before']:.3f} -> {score['cross_entropy']:.3f} (distilled images)"
        for task, score in sorted(found["scores"].items())
    ]


def test_a_plain_merge_tells_strategy_coefficients_and_scores(merged: Merged) -> None:
    top = merged("breast", "colon", "lung")
    assert git_ok(top, "log", "-1", "--format=%s") == "Merge branch 'lung'"
    for rev in ("HEAD", "HEAD^"):
        found = item(top, rev)
        entries = found["contributions"].items()
        assert trailers(top, "Forge-Strategy", rev) == ["mixture"]
        assert trailers(top, "Forge-Contribution", rev) == [f"{k} {v['coefficient']:.6f}" for k, v in entries]
        assert trailers(top, "Forge-Score", rev) == expected_scores(found)


def test_a_task_that_is_new_is_compared_with_the_model_before_the_merge(merged: Merged) -> None:
    """breast and colon were there: what they had before is what the model before recorded after."""
    top = merged("breast", "colon", "lung")
    after, before = item(top)["scores"], item(top, "HEAD^")["scores"]
    for task in ("breast", "colon"):
        assert after[task]["accuracy_before"] == before[task]["accuracy"]
        assert abs(after[task]["cross_entropy_before"] - before[task]["cross_entropy"]) < 2e-6
    assert after["lung"]["accuracy_before"] is not None


def test_git_forge_commit_writes_them_too(hospitals: Path) -> None:
    found = item(hospitals, "colon")
    assert git_ok(hospitals, "log", "-1", "--format=%s", "colon") == "Add colon"
    assert trailers(hospitals, "Forge-Strategy", "colon") == ["mixture"]
    assert trailers(hospitals, "Forge-Contribution", "colon") == ["colon 1.000000"]
    assert trailers(hospitals, "Forge-Score", "colon") == expected_scores(found)
