"""Who may change what in a model: the rule, over values alone.

The rights are those of the branch that is merged into; the commits are those that come in. So nothing that a branch
brings, its own .forge/sites.toml included, has a say in whether it may be merged.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from forge.errors import ForgeError
from forge.recipe.checks import check_choice, check_count, check_name
from forge.recipe.layout import CONTRIBUTIONS, ITEM_FILE, consolidation_paths
from forge.recipe.toml_text import parse_toml, refuse_unknown, take_table
from forge.text import printable
from forge.trust.allowed_signers import FOLDER

SITES_FILE = f"{FOLDER}/sites.toml"
FORMAT = 1
MAX_SITES = 1000
MAX_PRINCIPALS = 100  # of one site, and of the maintainers
MAX_PRINCIPAL = 255  # characters

Newcomers = Literal["maintainers", "signers", "anyone"]
NEWCOMERS: tuple[Newcomers, ...] = get_args(Newcomers)

# How a file of a commit differs. "mode": it is, or becomes, something else than the plain file it was.
# "stored otherwise": the same content, once in git and once as a pointer of git-lfs.
Kind = Literal["added", "modified", "deleted", "mode", "stored otherwise"]

# "good" alone counts. "not valid then": the key is known, but not for the date of the commit. "refused": ssh-keygen
# says no: what was signed is something else, or the key is revoked or not meant for git.
Signature = Literal["good", "none", "unknown key", "not valid then", "other kind", "refused"]

_WORDS: Mapping[Signature, str] = {
    "good": "signed by",
    "none": "not signed",
    "unknown key": "signed by a key that nobody is known by",
    "not valid then": "signed by a key that was not valid at its date",
    "other kind": "signed by another kind of key than SSH's",
    "refused": "its signature does not hold (altered, revoked, or not for git)",
}
_KEYS = ("format", "maintainers", "threshold", "newcomers", "sites")
_SHOWN = 4  # principals, or paths, of one message
_SHORT = 10


@dataclass(frozen=True)
class Rights:
    """What .forge/sites.toml says.

    sites: the principals that contributions/NAME belongs to, by NAME. threshold: how many maintainers must stand
    behind what a protected branch is set to. newcomers: who may bring a contribution that no site owns.
    """

    maintainers: tuple[str, ...]
    sites: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    threshold: int = 1
    newcomers: Newcomers = "maintainers"

    def owners(self, name: str) -> tuple[str, ...]:
        """The principals that contributions/NAME belongs to; none where no site owns it."""
        if name in self.sites:
            return self.sites[name]
        folded = _folded(name)
        return next((owners for site, owners in self.sites.items() if _folded(site) == folded), ())


@dataclass(frozen=True)
class CommitFacts:
    """What one commit does, and who signed it.

    signer: a principal of the target's keys, None unless the signature is good. changes: by path, what no parent
    accounts for. removed: the contributions of which it leaves no file.
    """

    id: str
    signer: str | None
    signature: Signature
    changes: Mapping[str, Kind] = field(default_factory=dict, hash=False)
    removed: frozenset[str] = frozenset()


def read_rights(text: str | bytes, source: str = SITES_FILE) -> Rights:
    """The rights that a text says. Raises ForgeError naming `source` for anything that is not exactly that."""
    tables = parse_toml(text, source)
    refuse_unknown(tables, _KEYS, source)
    version = tables.get("format")
    if isinstance(version, bool) or version != FORMAT:
        raise ForgeError(
            f"{source}: format must be {FORMAT}, not {str(version)[:40]}",
            hint="a later git forge may have written it: update git forge",
        )
    maintainers = _principals(tables.get("maintainers"), f"{source}: maintainers")
    threshold = check_count(tables.get("threshold", 1), f"{source}: threshold")
    if threshold > len(maintainers):
        raise ForgeError(
            f"{source}: threshold is {threshold}, and there are {len(maintainers)} maintainers",
            hint="nothing could ever be merged: name more maintainers, or lower the threshold",
        )
    newcomers = check_choice(tables.get("newcomers", "maintainers"), f"{source}: newcomers", NEWCOMERS)
    sites = take_table(tables, "sites", source)
    if len(sites) > MAX_SITES:
        raise ForgeError(f"{source}: more than {MAX_SITES} sites")
    owners: dict[str, tuple[str, ...]] = {}
    folded: dict[str, str] = {}
    for name, value in sorted(sites.items()):
        try:
            check_name(name)
        except ForgeError as error:
            raise ForgeError(f"{source}: [sites]: {error.message}", hint=error.hint) from None
        if (other := folded.setdefault(_folded(name), name)) != name:
            raise ForgeError(f"{source}: [sites]: {other} and {name} are one folder on some machines")
        owners[name] = _principals(value, f"{source}: [sites] {name}")
    return Rights(maintainers, owners, threshold, newcomers)  # type: ignore[arg-type]  # checked to be one of them


def rights(base: Rights, commits: Iterable[CommitFacts], standing: Collection[str] = ()) -> tuple[str, ...]:
    """What some commits had no right to, one line each: the commit, what it changes, who signed it, who may.

    base: of the branch that is merged into. standing: the contributions that are in it; one that no site owns may be
    brought by newcomers, but once it is there only maintainers change it, until a site owns it.
    """
    known = frozenset(map(_folded, standing))
    return tuple(problem for facts in commits for problem in _problems(base, facts, known))


def contribution_of(path: str) -> str | None:
    """The contribution that a file is in; None for all other files, and for what only looks like one."""
    folder, _, rest = path.partition("/")
    name, _, inside = rest.partition("/")
    if folder != CONTRIBUTIONS or not inside:
        return None
    try:
        return check_name(name)
    except ForgeError:
        return None


def _problems(base: Rights, facts: CommitFacts, standing: frozenset[str]) -> list[str]:
    contributions: dict[str, set[Kind]] = {}
    others: dict[str, Kind] = {}
    for path, kind in facts.changes.items():
        if _is_recomputed(path, kind):
            continue
        name = contribution_of(path)
        if name is None:
            others[path] = kind
        else:
            contributions.setdefault(name, set()).add(kind)
    signed = _who_signed(facts)
    problems = []
    for name, kinds in sorted(contributions.items()):
        refusal = _refusal(base, facts, name, kinds, standing)
        if refusal:
            problems.append(f"{facts.id[:_SHORT]} {CONTRIBUTIONS}/{name}: {signed}; {refusal}")
    if contributions and not problems:
        # A consolidation belongs to one set of contributions: `git forge commit` takes it out as it folds in another.
        others = {path: kind for path, kind in others.items() if not _is_dropped_consolidation(path, kind)}
    if others and _signer(facts) not in base.maintainers:
        paths = _shown([printable(path) for path in sorted(others)])
        who = f"maintainers may change it: {_shown(base.maintainers)}"
        problems.append(f"{facts.id[:_SHORT]} {paths}: {signed}; {who}")
    return problems


def _refusal(base: Rights, facts: CommitFacts, name: str, kinds: set[Kind], standing: frozenset[str]) -> str | None:
    """Who may change a contribution, if not who signed this commit."""
    signer, owners = _signer(facts), base.owners(name)
    maintains = signer in base.maintainers
    if owners:
        if signer in owners or (maintains and (name in facts.removed or kinds == {"stored otherwise"})):
            return None
        also = ", and maintainers may take out the whole of it" if maintains else ""
        return f"it belongs to {_shown(owners)}{also}"
    if maintains:
        return None
    if _folded(name) in standing:
        return f"no site owns it, so maintainers may change it: {_shown(base.maintainers)}"
    if base.newcomers == "anyone" or (base.newcomers == "signers" and signer is not None):
        return None
    if base.newcomers == "signers":
        return "who brings a new contribution must be known by a key"
    return f"maintainers may bring a new contribution: {_shown(base.maintainers)}"


def _signer(facts: CommitFacts) -> str | None:
    return facts.signer if facts.signature == "good" else None


def _who_signed(facts: CommitFacts) -> str:
    words = _WORDS[facts.signature]
    return f"{words} {printable(facts.signer)}" if facts.signature == "good" else words


def _is_recomputed(path: str, kind: Kind) -> bool:
    """The forge item is a function of contributions and settings, which is computed again rather than believed."""
    return path == ITEM_FILE and kind in ("added", "modified", "deleted")


def _is_dropped_consolidation(path: str, kind: Kind) -> bool:
    return kind == "deleted" and path in consolidation_paths().values()


def _folded(name: str) -> str:
    """Names that are one folder on some file systems give one text: capitals, and Windows's dots at the end."""
    return name.casefold().rstrip(".")


def _shown(words: Collection[str]) -> str:
    first = list(words)[:_SHOWN]
    more = len(words) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")


def _principals(value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_PRINCIPALS:
        raise ForgeError(
            f"{what} must be a list of 1 to {MAX_PRINCIPALS} principals",
            hint='such as ["ada@consortium.example"], each as it stands in .forge/allowed_signers',
        )
    for principal in value:
        if not isinstance(principal, str) or not 1 <= len(principal) <= MAX_PRINCIPAL:
            raise ForgeError(f"{what}: a principal is a text of 1 to {MAX_PRINCIPAL} characters")
        if not principal.isprintable() or any(map(str.isspace, principal)):
            raise ForgeError(f"{what}: {printable(principal)!r} is not one printable word")
    return tuple(dict.fromkeys(value))
