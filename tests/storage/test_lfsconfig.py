"""A branch whose .lfsconfig names a server of its own, and whose files are pointers: nobody asks that server."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sample_models import BASE, SampleModel, adapter, distilled
from storage.lfs_models import PAYLOADS, LfsServer, lose, oid_of
from storage.listener import Listener, listening
from story.hospitals import forge, forge_ok, git, git_ok

from forge.clone import setup as clone_setup
from forge.errors import ForgeError
from forge.git import lfs
from forge.git.running import find_repository
from forge.recipe.item import ForgeItem
from forge.recipe.layout import FOLDERS
from forge.repo.contributions import find_files
from forge.repo.storage import attribute_lines

LUNG = tuple(f"contributions/lung/{file}.safetensors" for file in ("adapter_model", "distilled"))
COLON = "contributions/colon/adapter_model.safetensors"
# As `git lfs install` writes it into the settings of a user.
FILTER = """
[filter "lfs"]
\tclean = git-lfs clean -- %f
\tsmudge = git-lfs smudge -- %f
\tprocess = git-lfs filter-process
\trequired = true
"""
# {url} is the attacker's, {own} the one that the clone is to ask.
LFSCONFIGS = {
    "url": '[lfs]\n\turl = {url}/a\n\tpushurl = {url}/b\n\n[lfs "{own}"]\n\taccess = basic\n',
    "remotes": '[remote "origin"]\n\tlfsurl = {url}/c\n\tlfspushurl = {url}/d\n\turl = {url}/e\n'
    '[remote "evil.site"]\n\turl = {url}/f\n\tlfspushurl = {url}/g\n\tlfsurl = {url}/h\n'
    "[remote]\n\tlfsdefault = evil.site\n\tpushdefault = evil.site\n\tlfspushdefault = evil.site\n",
    "ssh": "[lfs]\n\turl = ssh://evil.invalid/x\n\tpushurl = ssh://evil.invalid/y\n\tgitprotocol = http\n",
}


@pytest.fixture
def not_set_up() -> None:
    """Here every command sets the clone up, as it does for people."""


@pytest.fixture
def attacker() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def honest() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def ssh_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """ssh_calls(): how ssh was called; it reaches nobody."""
    log, program = tmp_path / "ssh-log", tmp_path / "ssh"
    program.write_text(f"#!/bin/sh\necho \"$*\" >>'{log}'\nexit 255\n")
    program.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", f"'{program}'")
    return lambda: log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def git_lfs_for_all(user_settings: Path) -> None:
    """git-lfs is set up for every clone of this user, as most people have it."""
    user_settings.write_text(user_settings.read_text() + FILTER)


def pointer_to(content: bytes) -> bytes:
    oid = hashlib.sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n".encode()


def attack(source: Path, top: Path, lfsconfig: str) -> Path:
    """A copy of a model on main, and a branch `attack` with a third contribution in pointers and a .lfsconfig."""
    sample = SampleModel.__new__(SampleModel)
    sample.hour = 12
    sample.top = Path(shutil.copytree(source, top, symlinks=True))
    sample.git("switch", "--quiet", "-c", "attack")
    sample.write(".gitattributes", "".join(f"{line}\n" for line in attribute_lines("lfs")).encode())
    sample.write(".lfsconfig", lfsconfig.encode())
    sample.write_contribution("colon")
    for path, content in ((COLON, adapter(7)), (COLON.replace("adapter_model", "distilled"), distilled("colon"))):
        sample.write(path, pointer_to(content))
    sample.commit("Add colon")
    names = {"breast": 0.4, "lung": 0.3, "colon": 0.2}
    entries = (find_files(sample.repo, name, "HEAD").entry(scale) for name, scale in names.items())
    sample.write_item(ForgeItem(BASE, "mixture", tuple(entries)))
    sample.commit("Fold it")
    git_ok(top, "switch", "--quiet", "--force", "main", GIT_LFS_SKIP_SMUDGE="1")
    git_ok(top, "commit", "--quiet", "--allow-empty", "-m", "Both sides moved")
    return top


def everything_that_may_ask(top: Path) -> None:
    """What a person does with a branch. Whether it works is no matter here."""
    for args in (("fetch", "--all"), ("pull",), ("push", "origin", "main")):
        git(top, "lfs", *args)
    git(top, "merge", "--no-edit", "attack")
    git(top, "reset", "--hard", "--quiet", "HEAD")
    git(top, "switch", "attack")
    git(top, "switch", "--force", "attack", GIT_LFS_SKIP_SMUDGE="1")
    assert (top / ".lfsconfig").is_file()
    for args in (("fetch", "--all"), ("pull",), ("push", "origin", "attack"), ("push", "evil.site", "attack")):
        git(top, "lfs", *args)
    for words in ("status", "show", "verify", "storage", "storage git", "storage lfs", "commit", "push origin attack"):
        forge(top, *words.split())
    git(top, "push", "origin", "attack")
    git(top, "push", str(top / ".git"), "attack:refs/heads/copied")
    git(top, "diff", "main", "attack")


@pytest.mark.parametrize("which", LFSCONFIGS)
def test_a_model_kept_in_git_asks_nobody(
    which: str, in_git: Path, tmp_path: Path, attacker: Listener, honest: Listener,
    git_lfs_for_all: None, ssh_calls: Callable[[], list[str]],
) -> None:  # fmt: skip
    own = f"{honest.url}/tests/model.git/info/lfs"
    top = attack(in_git, tmp_path / "model", LFSCONFIGS[which].format(url=attacker.url, own=own))
    git_ok(top, "remote", "add", "origin", f"{honest.url}/tests/model.git")
    forge_ok(top, "status")
    assert git_ok(top, "config", "--local", "lfs.url") == git_ok(top, "config", "--local", "lfs.pushurl") == own

    refused = f"{COLON}: this is a pointer of git-lfs, and object "
    for args in (("verify", "attack"), ("review", "main", "attack")):
        said = forge(top, *args)
        assert said.code == 1 and refused in said.out and "no server was asked for it" in said.out
    assert forge_ok(top, "show", "attack").err == ""
    assert honest.requests == [], "a model that is kept in git needs no server"

    everything_that_may_ask(top)
    assert attacker.requests == []
    assert ssh_calls() == []


@pytest.mark.parametrize("which", LFSCONFIGS)
def test_a_model_kept_in_git_lfs_asks_its_own_server(
    which: str, in_lfs: Path, tmp_path: Path, attacker: Listener, server: LfsServer,
    git_lfs_for_all: None, ssh_calls: Callable[[], list[str]],
) -> None:  # fmt: skip
    top = attack(in_lfs, tmp_path / "model", LFSCONFIGS[which].format(url=attacker.url, own=server.url))
    git_ok(top, "remote", "add", "origin", server.url.removesuffix("/info/lfs"))
    assert f"git-lfs asks {server.url} for files, whatever .lfsconfig says." in forge_ok(top, "status").err
    assert git_ok(top, "config", "--local", "lfs.url") == server.url
    git_ok(top, "lfs", "install", "--local", "--force")  # its own hooks as well
    clone_setup.install(find_repository(top))
    assert forge(top, "push", "--no-scores", "origin", "main").code == 128  # giftless keeps no git
    lost = [oid_of(top, path, "main") for path in LUNG]
    assert all(server.has(oid) for oid in lost)

    git_ok(top, "switch", "--force", "attack", GIT_LFS_SKIP_SMUDGE="1")
    for oid in lost:
        lose(top, oid)
    assert lfs.read_payloads(find_repository(top), [git_ok(top, "rev-parse", f"main:{LUNG[0]}")])
    said = forge(top, "verify", "--no-scores")
    assert f"{COLON}: the content is in git-lfs, and object " in said.out and "lung" not in said.out
    git_ok(top, "switch", "--force", "main", GIT_LFS_SKIP_SMUDGE="1")
    said = forge(top, "review", "main", "attack")
    assert said.code == 1 and f"{COLON}: the content is in git-lfs" in said.out

    everything_that_may_ask(top)
    assert attacker.requests == []
    assert ssh_calls() == []


def test_status_says_what_lfsconfig_names_and_what_is_asked(in_git: Path, tmp_path: Path) -> None:
    url = "https://evil.invalid/lfs"
    top = attack(in_git, tmp_path / "model", f"[lfs]\n\turl = {url}\n\tpushurl = https://ours.invalid/m.git/info/lfs\n")
    git_ok(top, "remote", "add", "origin", "https://ours.invalid/m.git")
    assert "! lfsconfig" not in forge_ok(top, "status", "--porcelain").out
    git_ok(top, "switch", "--quiet", "--force", "attack", GIT_LFS_SKIP_SMUDGE="1")
    own = "https://ours.invalid/m.git/info/lfs"
    for _ in range(2):
        assert f"! lfsconfig lfs.url {url} used {own}\n" in forge_ok(top, "status", "--porcelain").out
        (top / ".lfsconfig").unlink(missing_ok=True)  # git-lfs reads that of HEAD then
    assert json.loads(forge_ok(top, "status", "--json").out)["lfsconfig"] == [
        {"key": "lfs.url", "url": url, "used": own}
    ]
    said = forge_ok(top, "status")
    assert f"  lfs.url = {url}  (asked: {own})\n" in said.out
    assert "git config lfs.url URL" in said.out
    assert "this branch keeps its payloads in git-lfs, which this clone does not use" not in said.err  # no main known

    git_ok(top, "config", "lfs.url", url)  # a person accepts it
    said = forge_ok(top, "status", "--porcelain")
    assert f"git-lfs asks {url} for files" in said.err
    assert git_ok(top, "config", "lfs.pushurl") == url
    assert f"! lfsconfig lfs.pushurl {own} used {url}\n" in said.out and "lfsconfig lfs.url" not in said.out


def test_the_clone_decides_whether_it_uses_git_lfs(
    in_git: Path, in_lfs: Path, tmp_path: Path, server: LfsServer
) -> None:
    """main of the remote is in git: a branch in git-lfs is not reason enough, until a person says so."""
    source = attack(in_git, tmp_path / "source", "")
    git_ok(tmp_path, "clone", "--quiet", str(source), "clone")
    top = tmp_path / "clone"
    git_ok(top, "switch", "--quiet", "attack")
    said = forge_ok(top, "status").err
    assert "warning: this branch keeps its payloads in git-lfs, which this clone does not use" in said
    assert git(top, "config", "--local", "--get-regexp", r"^filter\.lfs").stdout == ""
    (top / "contributions/colon/card.toml").write_text("")
    assert "git-lfs is not set up in this clone, and the payloads" in forge(top, "commit").err
    assert "no server was asked" in forge(top, "verify", "--no-scores").out

    git_ok(top, "lfs", "install", "--local", "--skip-repo")
    git_ok(top, "config", "lfs.url", server.url)
    store = server.store / hashlib.sha256(adapter(7)).hexdigest()
    store.parent.mkdir(parents=True)
    store.write_bytes(adapter(7))
    repo = find_repository(top)
    assert lfs.follow(repo, pointer_to(adapter(7)), "a file") == adapter(7)

    git_ok(top, "config", "--unset", "lfs.url")
    lose(top, store.name)
    with pytest.raises(ForgeError, match=r"a file: this is a pointer .* whose settings name no server for it"):
        lfs.follow(repo, pointer_to(adapter(7)), "a file")


def test_what_is_here_is_read_without_a_server(in_lfs: Path, tmp_path: Path) -> None:
    top = Path(shutil.copytree(in_lfs, tmp_path / "model", symlinks=True))
    assert git(top, "config", "--get-regexp", r"^lfs\.").stdout.strip() in ("", "lfs.repositoryformatversion 0")
    blob = git_ok(top, "rev-parse", f"HEAD:{PAYLOADS[0]}")
    git_ok(top, "config", "--remove-section", "filter.lfs")
    assert lfs.read_payloads(find_repository(top), [blob]) == {blob: (top / PAYLOADS[0]).read_bytes()}


EVIL = "[lfs]\n\turl = {url}/a\n\tpushurl = {url}/b\n"


def test_paths_to_a_remote_go_on_working(in_lfs: Path, tmp_path: Path, attacker: Listener) -> None:
    """git-lfs copies files from repository to repository then, by its own agent."""
    top = attack(in_lfs, tmp_path / "model", EVIL.format(url=attacker.url))
    git_ok(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "origin.git")
    git_ok(top, "remote", "add", "origin", "../origin.git")
    forge_ok(top, "status")
    git_ok(top, "switch", "--force", "attack", GIT_LFS_SKIP_SMUDGE="1")
    git_ok(top, "push", "--quiet", "origin", "main", "main:copy")
    oid = oid_of(top, PAYLOADS[0])
    assert (tmp_path / "origin.git/lfs/objects" / oid[:2] / oid[2:4] / oid).is_file()
    git_ok(tmp_path, "clone", "--quiet", "origin.git", "clone")
    twin = tmp_path / "clone"
    assert forge_ok(twin, "verify", "--no-scores").out.startswith("ok: ")
    git_ok(twin, "lfs", "pull")
    assert (twin / PAYLOADS[0]).stat().st_size > 200

    assert attacker.requests == []


def test_a_push_to_no_remote_by_name_goes_where_git_lfs_itself_would(
    in_lfs: Path, tmp_path: Path, attacker: Listener, server: LfsServer
) -> None:
    """There is no remote, so nothing is pinned: the push itself says where to."""
    top = attack(in_lfs, tmp_path / "model", EVIL.format(url=attacker.url))
    git_ok(top, "switch", "--force", "attack", GIT_LFS_SKIP_SMUDGE="1")
    place, tip = server.url.removesuffix("/info/lfs"), git_ok(top, "rev-parse", "main")
    lfs.push_objects(find_repository(top), place, place, [f"refs/heads/main {tip} refs/heads/main {'0' * 40}"], FOLDERS)
    assert server.has(oid_of(top, PAYLOADS[0]))
    assert attacker.requests == []


def test_ssh_goes_on_telling_git_lfs_where_to_go(
    in_lfs: Path, tmp_path: Path, attacker: Listener, server: LfsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = attack(in_lfs, tmp_path / "model", EVIL.format(url=attacker.url))
    log, program = tmp_path / "ssh-log", tmp_path / "ssh"
    answer = json.dumps({"href": server.url, "header": {}})
    program.write_text(
        f"#!/bin/sh\necho \"$*\" >>'{log}'\n"
        f"case \"$*\" in *git-lfs-authenticate*) echo '{answer}';; *) exit 255; esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", f"'{program}'")
    git_ok(top, "remote", "add", "origin", "git@host.invalid:tests/model.git")
    forge_ok(top, "status")
    repo, oid = find_repository(top), oid_of(top, PAYLOADS[0])
    git_ok(top, "switch", "--force", "attack", GIT_LFS_SKIP_SMUDGE="1")
    tip = git_ok(top, "rev-parse", "main")
    url = "git@host.invalid:tests/model.git"
    lfs.push_objects(repo, "origin", url, [f"refs/heads/main {tip} refs/heads/main {'0' * 40}"], FOLDERS)
    assert server.has(oid)
    lose(top, oid)
    blob = git_ok(top, "rev-parse", f"main:{PAYLOADS[0]}")
    assert lfs.read_payloads(repo, [blob])
    calls = log.read_text()
    assert "git@host.invalid git-lfs-authenticate tests/model.git upload" in calls
    assert "git@host.invalid git-lfs-authenticate tests/model.git download" in calls
    assert attacker.requests == []
