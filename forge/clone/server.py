"""What a bare repository on a server has to know: the hook that checks pushes, and git's own rules for them."""

from __future__ import annotations

from dataclasses import dataclass

from forge.clone import hooks as hook_files
from forge.git.lfs_endpoint import Setting, list_settings
from forge.git.running import Repository, git

# Each is off by default, and without any of them a push could do what no check of a version sees.
SETTINGS = {
    "receive.fsckObjects": "damaged objects are refused",
    "receive.denyNonFastForwards": "no branch is set back or replaced",
    "receive.denyDeletes": "no branch or tag is deleted",
}
_ON = "true"
_RECORD = "forge.serverset"  # the keys that we set, one value each


@dataclass(frozen=True)
class ServerSetting:
    """A setting of git as it is in effect. ours: git forge has set it; else a person had, and it stays."""

    key: str
    value: str
    meaning: str
    ours: bool


def install_server(repo: Repository, program: str) -> list[str]:
    """Put the hook in place; the names of those that run beside foreign ones. As hook_files.install_hooks."""
    return hook_files.install_hooks(repo, program, hook_files.SERVER_HOOKS)


def set_rules(repo: Repository) -> list[ServerSetting]:
    """Turn each of SETTINGS on where nobody has set it; how all of them are now. Doing it again changes nothing."""
    before = _listed(repo)
    settings = []
    for key, meaning in SETTINGS.items():
        values = [each.value for each in before if each.key == key.lower() and each.scope != "command"]
        recorded = _is_recorded(before, key)
        if not values:
            if not recorded:
                git(repo, "config", "--local", "--add", _RECORD, key)
            git(repo, "config", "--local", key, _ON)
        ours = not values or (recorded and values == [_ON])
        settings.append(ServerSetting(key, (values or [_ON])[-1], meaning, ours))
    return settings


def unset_rules(repo: Repository) -> None:
    """Take out those that `set_rules` has set and nobody has changed since."""
    before = _listed(repo, "local")
    for key in SETTINGS:
        values = [each.value for each in before if each.key == key.lower()]
        if _is_recorded(before, key) and values == [_ON]:
            git(repo, "config", "--local", "--unset", key)
    if any(each.key == _RECORD for each in before):
        git(repo, "config", "--local", "--unset-all", _RECORD)


def _listed(repo: Repository, scope: str | None = None) -> list[Setting]:
    keys = "|".join(key.lower().replace(".", r"\.") for key in (*SETTINGS, _RECORD))
    return list_settings(repo, f"^({keys})$", scope)


def _is_recorded(listed: list[Setting], key: str) -> bool:
    return any(each.key == _RECORD and each.value == key for each in listed if each.scope == "local")
