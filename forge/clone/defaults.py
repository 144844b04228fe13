"""Settings of git's own that set-up gives a value where nobody has: others stay, and what was set is taken out again.

Which of them are ours is remembered in a setting beside them, a key each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from forge.git.lfs_endpoint import Setting, list_settings
from forge.git.running import Repository, git


@dataclass(frozen=True)
class Defaults:
    """values: of the settings by their keys. record: the key under which those that we set are remembered.

    rivals: by key, other keys by which a person decides the same.
    """

    values: Mapping[str, str]
    record: str
    rivals: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def pattern(self) -> str:
        """What all of this depends on, for `git config --get-regexp`."""
        keys = {*self.values, self.record, *(rival for rivals in self.rivals.values() for rival in rivals)}
        return f"^({'|'.join(sorted(key.lower().replace('.', '[.]') for key in keys))})$"

    def is_ours(self, settings: Iterable[Setting], key: str) -> bool:
        """Whether the setting is there because we set it, and as we did."""
        own = [each.value for each in settings if each.scope == "local" and each.key == key.lower()]
        return own == [self.values[key]] and self._is_recorded(settings, key)

    def by_a_person(self, settings: Iterable[Setting], key: str) -> str | None:
        """The key by which a person, wherever that is, has decided what `key` decides; None where nobody has."""
        ours = self.is_ours(settings, key)
        for other in (key, *self.rivals.get(key, ())):
            for each in settings:
                is_ours = ours and other == key and each.scope == "local"
                if each.key == other.lower() and each.scope != "command" and not is_ours:
                    return other
        return None

    def _is_recorded(self, settings: Iterable[Setting], key: str) -> bool:
        return any(each.scope == "local" and each.key == self.record and each.value == key for each in settings)


def are_in_place(defaults: Defaults, settings: Sequence[Setting], *, on: bool = True) -> bool:
    """Whether every setting that nobody else decides is ours, or with `on` false none is."""
    return all(
        defaults.is_ours(settings, key) == (on and defaults.by_a_person(settings, key) is None)
        for key in defaults.values
    )


def put_in_place(repo: Repository, defaults: Defaults, *, on: bool = True) -> None:
    """Set those that nobody else decides, and take out ours of the others; with `on` false all of ours.

    Doing it again changes nothing.
    """
    settings = list_settings(repo, defaults.pattern)
    for key, value in defaults.values.items():
        ours = defaults.is_ours(settings, key)
        due = on and defaults.by_a_person(settings, key) is None
        if due and not ours:
            git(repo, "config", "--local", key, value)
            if not any(each.key == defaults.record and each.value == key for each in settings):
                git(repo, "config", "--local", "--add", defaults.record, key)
        elif ours and not due:
            git(repo, "config", "--local", "--unset", key)
    if not on and any(each.key == defaults.record and each.scope == "local" for each in settings):
        git(repo, "config", "--local", "--unset-all", defaults.record)
