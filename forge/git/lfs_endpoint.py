"""Where this clone lets git-lfs ask for files: an endpoint in the clone's own settings, which no branch can move.

git-lfs also reads .lfsconfig of the work tree, the index or HEAD, and any branch may name a server there. git's
settings win over that file: lfs.url over its lfs.url and every remote.NAME.lfsurl, lfs.pushurl over its lfs.pushurl
and lfspushurl. So both are "pinned" to what git-lfs makes of the remote's own URL, unless a person has set them. Two
keys that name no server are pinned too: lfs.URL.access, by which a branch could have people asked for a password, and
remote.lfsdefault. Nothing else of .lfsconfig has a say (tried with git-lfs 3.3; the code of 3.7 is the same).

forge.lfsPinned remembers what was pinned, a "KEY = VALUE" each; forge.lfsPinnedFrom what that was made of.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from forge.git.running import Repository, git, git_text, run_git

CONFIG_FILE = ".lfsconfig"
NOWHERE = "file:///dev/null"  # an endpoint that is none

# What a pin depends on and what it is, for `git config --get-regexp`.
PATTERN = (
    r"^(lfs\.(url|pushurl|gitprotocol)|lfs\..*\.access|remote\..*url|remote\.(lfsdefault|lfspushdefault|pushdefault)"
    r"|url\..*insteadof|forge\.lfspinned(from)?)$"
)
_URL, _PUSH_URL, _REMOTE = "lfs.url", "lfs.pushurl", "remote.lfsdefault"
_RECORD, _FROM = "forge.lfspinned", "forge.lfspinnedfrom"
_NO_ACCESS = "none"  # git-lfs's word for a server that has not asked for a password yet
_ANSWER = re.compile(r"^Endpoint=(.*) \(auth=\w*\)\n(  SSH=)?", re.MULTILINE)


@dataclass(frozen=True)
class Setting:
    """One line of git's settings. scope: local, global, system, worktree, or command for `git -c`."""

    scope: str
    key: str
    value: str


@dataclass(frozen=True)
class Endpoint:
    """What this clone's own settings say of git-lfs; nothing of a branch is in it.

    used: whether git-lfs is set up in this clone (filter.lfs in its own settings), so that files may be asked for.
    """

    url: str | None
    push_url: str | None
    used: bool

    @property
    def asked(self) -> bool:
        return self.used and self.url is not None


@dataclass(frozen=True)
class NamedEndpoint:
    """Another endpoint than this clone's, named by .lfsconfig. used: the one that is asked, None where none is set."""

    key: str
    url: str
    used: str | None


def list_settings(repo: Repository, pattern: str, scope: str | None = None) -> list[Setting]:
    """The settings whose keys match, in git's order: of two with one key the later one is in effect."""
    args = ["config", *([f"--{scope}"] if scope else []), "--show-scope", "--null", "--get-regexp", pattern]
    fields = os.fsdecode(git(repo, *args, check=False)).split("\0")
    pairs = zip(fields[0::2], fields[1::2], strict=False)
    return [Setting(setting_scope, *(each.partition("\n")[::2])) for setting_scope, each in pairs]


def is_pinned(settings: Iterable[Setting]) -> bool:
    """Whether the endpoint is what the rest of the settings asks for, or nothing can be done. Starts no process.

    settings: those of `list_settings` that match PATTERN; others are passed over.
    """
    settings = _relevant(settings)
    given = _given(settings)
    if not any(each.key == _URL or _remote_of(each.key) for each in given):
        return True  # no remote yet
    values = _in_effect(settings)
    if values.get(_FROM) == _digest(given) and all(key in values for key in _pinned(settings)):
        return True
    return shutil.which("git-lfs") is None


def pin(repo: Repository) -> bool:
    """Pin the endpoint of the clone's remote in its own settings; whether anything had to be done.

    What a person has set stays. Asks git-lfs, and no server. Raises ForgeError where the settings cannot be written.
    """
    settings = _relevant(list_settings(repo, PATTERN))
    if is_pinned(settings):
        return False
    given = _given(settings)
    pins = _wanted(repo, given)
    _take_out(repo, settings)
    values = {**_in_effect(given), **pins}
    for url in {values[key] for key in (_URL, _PUSH_URL) if key in values}:
        pins |= _access(repo, url, values)
    # In this order a kill at any point leaves nothing that would look like a person's own.
    for key, value in pins.items():
        git(repo, "config", "--local", "--add", _RECORD, f"{key} = {value}")
        git(repo, "config", "--local", "--replace-all", key, value)
    git(repo, "config", "--local", "--replace-all", _FROM, _digest(given))
    return True


def unpin(repo: Repository) -> None:
    """Take out what `pin` has put there, and nothing that a person has set."""
    _take_out(repo, list_settings(repo, PATTERN))


def find_endpoint(repo: Repository) -> Endpoint:
    """The endpoint in git's settings, whoever has set it."""
    settings = list_settings(repo, r"^(lfs\.(url|pushurl)|filter\.lfs\.(clean|process))$")
    values = _in_effect(settings)
    used = any(each.scope in ("local", "worktree") for each in settings if each.key.startswith("filter."))
    return Endpoint(values.get(_URL), values.get(_PUSH_URL) or values.get(_URL), used)


def find_push_url(repo: Repository, remote: str, url: str) -> str:
    """Where the files of a push go: what a person has set for it, else what git-lfs makes of the remote's own URL.

    remote: its name, or what stands in place of one. url: its URL, or once more its name.
    """
    settings = _relevant(list_settings(repo, PATTERN))
    values = _in_effect(_given(settings, also_of_command=True))
    for key in (_PUSH_URL, _URL, f"remote.{remote}.lfspushurl", f"remote.{remote}.lfsurl"):
        if values.get(key):
            return values[key]
    pinned = _pinned(settings)
    if _PUSH_URL in pinned and _remotes(values) == [remote]:
        return pinned[_PUSH_URL]
    return _endpoint_of(repo, _url_of(repo, remote, push=True) if url == remote else url, values)


def default_remote(repo: Repository) -> str | None:
    """The remote whose endpoint is pinned."""
    return _default_remote(_in_effect(_given(_relevant(list_settings(repo, PATTERN)))))


def endpoints_named(repo: Repository) -> tuple[NamedEndpoint, ...]:
    """The endpoints in .lfsconfig, of the work tree and of HEAD, that are not this clone's own."""
    places = [["--blob", f"HEAD:{CONFIG_FILE}"]]
    if (repo.top / CONFIG_FILE).is_file():
        places.insert(0, ["--file", str(repo.top / CONFIG_FILE)])
    named: dict[tuple[str, str], None] = {}
    for place in places:
        question = ("--no-includes", "--null", "--get-regexp", r"^(lfs\.(url|pushurl)|remote\..*url)$")
        for record in os.fsdecode(git(repo, "config", *place, *question, check=False)).split("\0"):
            key, _, value = record.partition("\n")
            named.update({(key, value): None} if key else {})
    if not named:
        return ()
    own = find_endpoint(repo)
    endpoints = (NamedEndpoint(key, url, own.push_url if "push" in key else own.url) for key, url in named)
    return tuple(each for each in endpoints if each.used is None or each.url.rstrip("/") != each.used.rstrip("/"))


def _relevant(settings: Iterable[Setting]) -> list[Setting]:
    return [each for each in settings if re.match(PATTERN, each.key)]


def _in_effect(settings: Iterable[Setting]) -> dict[str, str]:
    return {each.key: each.value for each in settings}


def _pinned(settings: Sequence[Setting]) -> dict[str, str]:
    """What was pinned, by key."""
    records = (each.value.partition(" = ") for each in settings if (each.scope, each.key) == ("local", _RECORD))
    return {key: value for key, _, value in records}


def _given(settings: Sequence[Setting], *, also_of_command: bool = False) -> list[Setting]:
    """The settings without those of `pin`; those of one command (git -c) are no settings of the clone."""
    pinned = _pinned(settings)
    return [
        each
        for each in settings
        if each.key not in (_RECORD, _FROM)
        and not (each.scope == "local" and pinned.get(each.key) == each.value)
        and (also_of_command or each.scope != "command")
    ]


def _digest(given: Sequence[Setting]) -> str:
    # git-lfs itself writes lfs.URL.access, when a server has asked for a password.
    known = [(each.key, each.value) for each in given if not each.key.endswith(".access")]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def _remote_of(key: str) -> str | None:
    """The remote that a key gives a URL to be fetched from or pushed to."""
    match = re.fullmatch(r"remote\.(.+)\.(?:push)?url", key, re.DOTALL)
    return match[1] if match else None


def _remotes(values: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys(name for key in values if (name := _remote_of(key))))


def _default_remote(values: Mapping[str, str]) -> str | None:
    remotes = _remotes(values)
    usual = values.get("remote.lfsdefault", "origin")
    return usual if usual in remotes else next(iter(remotes), None)


def _wanted(repo: Repository, given: Sequence[Setting]) -> dict[str, str]:
    """What to pin: git-lfs takes lfs.url for every remote, so it is that of one, and lfs.pushurl that of one."""
    values, pins = _in_effect(given), {}
    remote = _default_remote(values)
    if remote is not None and _REMOTE not in values:
        pins[_REMOTE] = remote
    if _URL in values:
        return pins if _PUSH_URL in values else {**pins, _PUSH_URL: values[_URL]}
    if remote is None:
        return pins
    url = _url_of(repo, remote, push=False)
    pins[_URL] = values.get(f"remote.{remote}.lfsurl") or _endpoint_of(repo, url, values)
    if _PUSH_URL not in values:
        pushed = values.get("remote.lfspushdefault") or values.get("remote.pushdefault")
        pushed = pushed if pushed in _remotes(values) else remote
        own = values.get(f"remote.{pushed}.lfspushurl") or values.get(f"remote.{pushed}.lfsurl")
        push_url = own or _url_of(repo, pushed, push=True)
        if own is None:
            push_url = pins[_URL] if (push_url, pushed) == (url, remote) else _endpoint_of(repo, push_url, values)
        pins[_PUSH_URL] = push_url
    return pins


def _access(repo: Repository, url: str, values: Mapping[str, str]) -> dict[str, str]:
    """How to log in at an endpoint, as it is without a .lfsconfig; of all keys that match, the whole URL's own wins."""
    if not url.startswith(("http://", "https://")):
        return {}
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    key = f"lfs.{scheme}://{host.rpartition('@')[2]}{slash}{path}.access"
    if key in values:
        return {}
    return {key: git_text(repo, "config", "--get-urlmatch", "lfs.access", url, check=False) or _NO_ACCESS}


def _url_of(repo: Repository, remote: str, *, push: bool) -> str:
    """The URL that git fetches a remote from or pushes it to, with url.X.insteadOf applied."""
    args = ("remote", "get-url", *(["--push"] if push else []), "--", remote)
    return git_text(repo, *args, check=False).partition("\n")[0] or remote


def _endpoint_of(repo: Repository, url: str, values: Mapping[str, str]) -> str:
    """What git-lfs makes of the URL of a remote where no .lfsconfig is, as a value of lfs.url."""
    from tempfile import TemporaryDirectory  # loads much

    with TemporaryDirectory(prefix="git-forge-lfs-") as folder:
        # Started in our own top folder, where a path to a remote may begin.
        scratch = Repository(repo.top, Path(folder), Path(folder))
        settings = {"remote.origin.url": url, "lfs.gitprotocol": values.get("lfs.gitprotocol", "https")}
        variables = {
            "GIT_DIR": folder,
            "GIT_CONFIG_GLOBAL": os.devnull,  # insteadOf is applied already
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": str(len(settings)),  # a URL may hold a password, which no list of processes shows so
            **{f"GIT_CONFIG_KEY_{number}": key for number, key in enumerate(settings)},
            **{f"GIT_CONFIG_VALUE_{number}": value for number, value in enumerate(settings.values())},
        }
        run_git(scratch, "init", "--quiet", "--bare", "--template=", folder, variables=variables, check=False)
        done = run_git(scratch, "lfs", "env", variables=variables, check=False)
        match = _ANSWER.search(os.fsdecode(done.stdout))
    if match and not match[2] and match[1].startswith(("http://", "https://", "file://")):
        return match[1]
    # Through ssh git-lfs asks the host where to go and with which token: it takes the URL itself for that. The same
    # for what git-lfs does not know, such as a path where nothing is yet: nothing of a branch gets into its place.
    return url


def _take_out(repo: Repository, settings: Sequence[Setting]) -> None:
    """Remove what was pinned, settings first: what is remembered without being set does no harm."""
    local = [each for each in settings if each.scope == "local"]
    for key, value in _pinned(settings).items():
        if any((each.key, each.value) == (key, value) for each in local):
            git(repo, "config", "--local", "--fixed-value", "--unset-all", key, value)
    for key in (_RECORD, _FROM):
        if any(each.key == key for each in local):
            git(repo, "config", "--local", "--unset-all", key)
