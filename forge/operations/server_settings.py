"""What the operator of a server has set for pushes: `git config` of the receiving repository, which no push raises."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from forge.errors import ForgeError
from forge.git.lfs_endpoint import list_settings
from forge.git.running import MEBIBYTE, Repository, git_text
from forge.recipe.settings import LimitSettings
from forge.repo.items import read_settings_of

_DEFAULTS = LimitSettings()


@dataclass(frozen=True)
class ServerSettings:
    """What is set; None: what the target says.

    file_size: bytes of one file, also of one in git-lfs. contributions: in one version. files: below contributions/ in
    one version. images: in one distilled dataset. all_commits: whether every new commit must verify, not only the one
    that a ref is set to. reproduce: whether forge items are made again. protected: the refs that rights and approvals
    are asked for.
    """

    file_size: int | None = None
    contributions: int | None = None
    files: int = 10_000
    images: int | None = None
    all_commits: bool = False
    reproduce: bool = False
    protected: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServerLimits:
    """As in ServerSettings, with what the target says where the operator has not."""

    file_size: int
    contributions: int
    files: int
    images: int


def read_server_settings(repo: Repository) -> ServerSettings:
    """The settings of the receiving repository. Raises ForgeError for one that makes no sense."""
    # Seldom is any of them set, and git is asked for each that is: what its words mean is git's to say.
    keys = {each.key for each in list_settings(repo, r"^forge\.")}
    files = _number(repo, keys, "forge.maxFiles")
    return ServerSettings(
        file_size=_number(repo, keys, "forge.maxFileSize"),
        contributions=_number(repo, keys, "forge.maxContributions"),
        files=ServerSettings.files if files is None else files,
        images=_number(repo, keys, "forge.maxImages"),
        all_commits=_checks_all(repo, keys),
        reproduce=_flag(repo, keys, "forge.reproduce"),
        protected=_protected(repo, keys),
    )


def limits_for(repo: Repository, settings: ServerSettings, target: str | None) -> ServerLimits:
    """The limits for what is pushed onto a commit: the operator's, else those of the model that is there already."""
    own = _DEFAULTS
    if target is not None:
        try:
            own = read_settings_of(repo, target).limits
        except ForgeError:
            own = _DEFAULTS
    return ServerLimits(
        file_size=own.file_bytes if settings.file_size is None else settings.file_size,
        contributions=own.contributions if settings.contributions is None else settings.contributions,
        files=settings.files,
        images=own.distilled_images if settings.images is None else settings.images,
    )


def as_limit_settings(limits: ServerLimits) -> LimitSettings:
    """The same as the limits of a forge.toml, rounded up to what that can say."""
    return replace(
        _DEFAULTS,
        file_mebibytes=max(1, -(-limits.file_size // MEBIBYTE)),
        distilled_images=max(1, limits.images),
        contributions=max(1, limits.contributions),
    )


def _protected(repo: Repository, keys: Collection[str]) -> tuple[str, ...]:
    """forge.protected, as often as it is set; the branch that HEAD names where nobody has set it."""
    asked = ("config", "--null", "--get-all", "forge.protected")
    values = git_text(repo, *asked, check=False).split("\0") if "forge.protected" in keys else []
    names = [name if name.startswith("refs/") else f"refs/heads/{name}" for name in values if name]
    head = git_text(repo, "symbolic-ref", "--quiet", "HEAD", check=False)
    return tuple(names) or ((head,) if head else ())


def _number(repo: Repository, keys: Collection[str], key: str) -> int | None:
    if key.lower() not in keys:
        return None
    try:
        return int(git_text(repo, "config", "--type=int", "--get", key))
    except ForgeError as error:
        raise ForgeError(
            f"the server's setting {key} is wrong: {error.message}", hint=f"git config {key} 20m"
        ) from None


def _flag(repo: Repository, keys: Collection[str], key: str) -> bool:
    if key.lower() not in keys:
        return False
    try:
        return git_text(repo, "config", "--type=bool", "--default=false", "--get", key) == "true"
    except ForgeError as error:
        raise ForgeError(
            f"the server's setting {key} is wrong: {error.message}", hint=f"git config {key} true"
        ) from None


def _checks_all(repo: Repository, keys: Collection[str]) -> bool:
    if "forge.checkcommits" not in keys:
        return False
    value = git_text(repo, "config", "--get", "forge.checkCommits", check=False) or "tips"
    if value not in ("tips", "all"):
        raise ForgeError(
            f"the server's setting forge.checkCommits is {value!r}", hint="git config forge.checkCommits tips (or all)"
        )
    return value == "all"
