"""git forge status, by its whole output."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from sample_models import BASE, SampleModel

from forge.cli import run
from forge.operations.status import find_status


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SampleModel:
    model = SampleModel(tmp_path_factory.mktemp("original"))
    model.add_contribution("lung", {"lung": 0.5})
    model.add_contribution("breast", {"lung": 0.25, "breast": 0.6}, version=2)
    return model


@pytest.fixture
def model(original: SampleModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampleModel:
    model = original.copy(tmp_path / "model")
    monkeypatch.chdir(model.top)
    return model


HEAD = f"Branch    main\nBase      embedded  {BASE.fingerprint}\nStrategy  mixture\n\n"
PORCELAIN_HEAD = (
    f"# branch main\n# base embedded\n# fingerprint {BASE.fingerprint}\n# strategy mixture\n# installed yes\n"
)


def states(model: SampleModel) -> dict[str, tuple[str, bool]]:
    """Letters of git, and whether the forge item knows it, by contribution."""
    return {each.name: (each.index + each.work_tree, each.folded) for each in find_status(model.repo).contributions}


def test_clean(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status"]) == 0
    assert capsys.readouterr().out == HEAD + (
        "   Contribution  Coefficient  State\n"
        "-  breast           0.600000  committed\n"
        "-  lung             0.250000  committed\n"
    )
    assert run(["status", "--porcelain"]) == 0
    assert capsys.readouterr().out == PORCELAIN_HEAD


def test_new_and_changed(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    model.write_contribution("colon")
    (model.top / "contributions/colon/distilled.safetensors").unlink()
    model.write_contribution("lung", version=5)
    model.git("add", "contributions/lung/card.toml", "contributions/lung/distilled.safetensors")
    problems = [
        f"contributions/lung/{file} is {model.git('hash-object', f'contributions/lung/{file}')[:10]}, "
        f"but the forge item names {model.git('rev-parse', f'HEAD:contributions/lung/{file}')[:10]}"
        for file in ("adapter_model.safetensors", "distilled.safetensors")
    ]
    assert run(["status"]) == 0
    assert capsys.readouterr().out == HEAD + (
        "    Contribution  Coefficient  State\n"
        "-   breast           0.600000  committed\n"
        "??  colon                   -  incomplete: distilled.safetensors missing\n"
        "MM  lung             0.250000  changed, not yet in the forge item\n"
        "\n"
        "In the work tree (`git forge commit` folds what is new, once every contribution is whole):\n"
        "  contributions/colon is not in the forge item\n"
        f"  {problems[0]}\n"
        f"  {problems[1]}\n"
    )
    assert run(["status", "--porcelain"]) == 0
    assert capsys.readouterr().out == PORCELAIN_HEAD + (
        "?? colon\n"
        "MM lung\n"
        "! work-tree contributions/colon is not in the forge item\n"
        f"! work-tree {problems[0]}\n"
        f"! work-tree {problems[1]}\n"
    )


def test_short_is_that_of_git(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--short"]) == 0
    assert capsys.readouterr().out == ""
    model.write_contribution("colon")
    model.write_contribution("lung", version=5)
    assert run(["status", "-s", "-b"]) == 0
    assert capsys.readouterr().out == "## main\n?? contributions/colon\n M contributions/lung\n"
    assert "?? contributions/colon/" in model.git("status", "--short").splitlines()


def test_letters_are_those_of_git(model: SampleModel) -> None:
    model.write_contribution("colon")
    assert states(model)["colon"] == ("??", False)
    model.write_item(model.item({"lung": 0.25, "breast": 0.6, "colon": 1.0}))
    assert states(model)["colon"] == ("??", True)
    model.git("add", "--all")
    assert states(model)["colon"] == ("A ", True)
    model.write_contribution("colon", version=4)
    assert states(model)["colon"] == ("AM", False)
    shutil.rmtree(model.top / "contributions/colon")
    assert states(model)["colon"] == ("AD", False)
    model.git("reset", "--hard", "--quiet")
    shutil.rmtree(model.top / "contributions/lung")
    assert states(model)["lung"] == (" D", False)
    model.git("add", "--all")
    model.write_item(model.item({"breast": 0.6}))
    assert states(model) == {"breast": ("  ", True), "lung": ("D ", True)}


def test_words(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    model.write_contribution("colon")
    model.write_contribution("other")
    shutil.rmtree(model.top / "contributions/lung")
    model.write_item(model.item({"breast": 0.6, "colon": 1.0}))
    model.git("add", "--all")
    model.write_item(model.item({"breast": 0.6, "colon": 1.0, "other": 1.0}))
    model.git("rm", "-q", "--cached", "-r", "contributions/other")
    assert run(["status"]) == 0
    assert capsys.readouterr().out == HEAD + (
        "    Contribution  Coefficient  State\n"
        "-   breast           0.600000  committed\n"
        "A   colon                   -  staged\n"
        "D   lung             0.250000  removed\n"
        "??  other                   -  folded, not yet staged\n"
    )


def test_json(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["branch"], found["base"], found["strategy"], found["installed"]) == (
        "main",
        "embedded",
        "mixture",
        True,
    )
    assert found["contributions"][0] == {
        "name": "breast",
        "coefficient": 0.6,
        "index": " ",
        "work_tree": " ",
        "missing": [],
        "folded": True,
    }
    assert found["head_problems"] == found["work_tree_problems"] == found["pointers"] == []


def test_in_the_middle_of_a_conflict(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    model.git("checkout", "-q", "-b", "side")
    model.add_contribution("lung", {"lung": 0.3, "breast": 0.6}, version=7)
    model.git("checkout", "-q", "main")
    model.add_contribution("lung", {"lung": 0.2, "breast": 0.6}, version=8)
    model.git("merge", "side", check=False)
    assert run(["status"]) == 0
    out = capsys.readouterr().out
    assert "UU  lung             0.200000  cannot be read, see below\n" in out
    assert "merge conflict: the file holds conflict markers" in out
    assert "lung/adapter_model.safetensors: merge conflict" in out


def test_problems_of_head(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    model.write_contribution("colon")
    model.commit("Forget the forge item")
    assert run(["status"]) == 0
    out = capsys.readouterr().out
    assert out.endswith(
        "In HEAD, the forge item and the tree disagree (see `git forge verify`):\n"
        "  contributions/colon is not in the forge item\n"
    )


def test_pointers(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    model.write("contributions/lung/adapter_model.safetensors", pointer)
    assert find_status(model.repo).pointers == ("contributions/lung/adapter_model.safetensors",)
    assert run(["status", "--porcelain"]) == 0
    assert "! pointer contributions/lung/adapter_model.safetensors\n" in capsys.readouterr().out


def test_not_set_up(model: SampleModel) -> None:
    assert not find_status(model.repo).installed


def test_detached_head_and_no_commit(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    model.git("checkout", "-q", "--detach")
    assert run(["status", "--porcelain"]) == 0
    assert capsys.readouterr().out.startswith("# branch (detached)\n")
    model.git("checkout", "-q", "--orphan", "fresh")
    assert run(["status", "--porcelain"]) == 0
    assert "A  breast\nA  lung\n" in capsys.readouterr().out


def test_a_bare_repository_has_no_work_tree(
    model: SampleModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare"))
    monkeypatch.chdir(tmp_path / "bare")
    assert run(["status"]) == 128
    said = capsys.readouterr().err
    assert "is a bare repository" in said and "git forge init" not in said
    for verb in ("log", "show", "diff HEAD~1 HEAD", "verify --no-scores"):
        assert run(verb.split()) in (0, 1)
        assert "error" not in capsys.readouterr().err


def test_what_commit_would_refuse_is_not_advised(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    model.write_contribution("colon")
    assert run(["status"]) == 0
    assert "In the work tree (`git forge commit` folds what is new):\n" in capsys.readouterr().out
    shutil.copy(model.top / "contributions/lung/adapter_model.safetensors", model.top / "contributions/colon")
    assert run(["status"]) == 0
    out = capsys.readouterr().out
    assert "(`git forge commit` folds what is new, once every contribution is whole):\n" in out
    assert "  the same adapter under several names: colon, lung\n" in out
    model.git("checkout", "-q", "--orphan", "fresh")
    assert run(["status"]) == 0
    assert "`git forge commit` folds what is new):" not in capsys.readouterr().out


def test_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["status"]) == 128
    assert "not in a git repository" in capsys.readouterr().err


def test_an_empty_model_in_a_clone_that_is_not_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = SampleModel(tmp_path / "model")
    monkeypatch.chdir(model.top)
    monkeypatch.setattr("forge.clone.setup.is_installed", lambda repo: False)
    monkeypatch.setattr("forge.clone.setup.ensure_installed", lambda repo: None)
    assert run(["status"]) == 0
    assert capsys.readouterr().out == HEAD.rstrip("\n") + (
        "\n\nThis clone is not set up: run `git forge install`.\n"
        "\nNo contributions yet: make one with `git forge train NAME --data DATA`.\n"
    )


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ((), "this clone does not use git-lfs; if it is to: git lfs install --local"),
        (("filter.lfs.clean",), "git remote add origin URL, then run `git lfs pull`"),
        (("filter.lfs.clean", "lfs.url"), "run `git lfs pull`"),
    ],
)
def test_pointers_are_shown(
    model: SampleModel, capsys: pytest.CaptureFixture[str], settings: tuple[str, ...], advice: str
) -> None:
    if shutil.which("git-lfs") is None:
        advice = "install git-lfs (https://git-lfs.com), then run: git lfs install"
    for key in settings:
        model.git("config", key, "https://lfs.example")
    model.write("contributions/lung/adapter_model.safetensors", b"version https://git-lfs.github.com/spec/v1\n")
    assert run(["status"]) == 0
    assert capsys.readouterr().out.endswith(
        f"\nPointers of git-lfs in place of the files ({advice}):\n  contributions/lung/adapter_model.safetensors\n"
    )
