"""What a bare repository on a server has to know: the hook that checks pushes, and git's own rules for them."""

from __future__ import annotations

from dataclasses import dataclass

from forge.clone import hooks as hook_files
from forge.clone.defaults import Defaults, put_in_place
from forge.git.lfs_endpoint import list_settings
from forge.git.running import Repository

# Without any of the first three a push could do what no check of a version sees.
_MEANINGS = {
    "receive.fsckObjects": "damaged objects are refused",
    "receive.denyNonFastForwards": "no branch is set back or replaced",
    "receive.denyDeletes": "no branch or tag is deleted",
    "receive.unpackLimit": "a push is kept as it came, not unpacked and packed again for every clone",
}
_DEFAULTS = Defaults(
    values={**dict.fromkeys(_MEANINGS, "true"), "receive.unpackLimit": "1"},
    record="forge.serverset",
    rivals={"receive.unpackLimit": ("transfer.unpackLimit",)},
)


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
    """Set each of git's rules for pushes where nobody has; how all of them are now. Doing it again changes nothing."""
    put_in_place(repo, _DEFAULTS)
    settings = list_settings(repo, _DEFAULTS.pattern)
    rules = []
    for key, meaning in _MEANINGS.items():
        by = _DEFAULTS.by_a_person(settings, key)
        name = by or key
        value = [each.value for each in settings if each.key == name.lower() and each.scope != "command"][-1]
        rules.append(ServerSetting(name, value, meaning, by is None))
    return rules


def unset_rules(repo: Repository) -> None:
    """Take out those that `set_rules` has set and nobody has changed since."""
    put_in_place(repo, _DEFAULTS, on=False)
