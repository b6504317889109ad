"""Whether everything is there that a pipeline needs to run here, or on AWS, and what to do where it is not.

Pure: what was found out (``doctor_facts.py``) is judged here, without I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from silversmith.reconcile.hops import Problem

#: The oldest Python that is supported.
PYTHON = (3, 11)

#: With less room in bytes a run is about to fail, or soon will.
NO_ROOM, LITTLE_ROOM = 100_000_000, 2_000_000_000

#: With fewer free inodes a run will fail soon: each file in silver needs one, and its folders.
FEW_INODES = 10_000

#: From this share of a limit on, it is near.
NEAR = 0.8

#: The kernel drops events beyond its queue; the engine then looks through all of bronze again, which takes time.
QUEUE = 16_384

#: Descriptors that the engine needs itself, whatever it runs, and those that let it breathe.
FEWEST_FILES, ENOUGH_FILES = 256, 1024

#: So many of an account's concurrent invocations cannot be reserved.
#: https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
UNRESERVED = 100

#: How far in the future a file's time may be without meaning anything, in seconds: clocks of other machines differ.
AHEAD = 60.0


class State(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"  #: it works, but not for long, or not well
    FAIL = "fail"  #: it cannot work


@dataclass(frozen=True)
class Finding:
    """One check: its ``name``, what was ``found``, and what to ``do`` about it; empty where that is nothing."""

    name: str
    state: State
    found: str
    do: str = ""


@dataclass(frozen=True)
class Package:
    """A package, or one that is not installed (``version`` None). ``least``: the oldest that is supported, or empty."""

    name: str
    version: str | None
    least: str


@dataclass(frozen=True)
class Watching:
    """The machine's inotify limits, and how many folders want a watch each."""

    folders: int
    watches: int
    queued: int


@dataclass(frozen=True)
class Disk:
    """Room on the lake's disk. Sizes in bytes; ``inodes`` None: its file system does not count them."""

    free: int
    inodes: int | None


@dataclass(frozen=True)
class FileSystem:
    """What the lake's file system can do: ``broken`` are the abilities that it lacks, with what it said.

    ``apart`` are the lake's folders that are on another file system than the lake.
    """

    place: str
    broken: Mapping[str, str]
    apart: tuple[str, ...] = ()


@dataclass(frozen=True)
class Clock:
    """The time now, and that of the newest file in bronze, in Unix seconds; None: there is none."""

    now: float
    newest: float | None
    key: str = ""


@dataclass(frozen=True)
class Account:
    """The AWS account that the credentials are for, or why there is none (``problem``)."""

    id: str = ""
    region: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Chain:
    """The deployed way of events, from bronze to the functions, as ``shown`` to a person; empty: nothing is deployed.

    ``broken`` is what is not as it was deployed.
    """

    shown: str = ""
    broken: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Concurrency:
    """Invocations at once: what the transforms may come to together, how many of these are reserved for them, and what
    the account allows, of which some must stay unreserved. ``limit`` None: it could not be asked, and ``problem`` says
    why."""

    wanted: int
    reserved: int
    limit: int | None
    problem: str = ""


@dataclass(frozen=True)
class Facts:
    """Everything that was found out. What is None was not looked at, because it does not matter there. ``owners``: by
    transform, which other pipeline has its silver."""

    python: tuple[int, ...]
    packages: tuple[Package, ...]
    pipeline: str | None = None
    pipeline_problem: str = ""
    watching: Watching | None = None
    disk: Disk | None = None
    file_system: FileSystem | None = None
    clock: Clock | None = None
    open_files: int | None = None
    account: Account | None = None
    concurrency: Concurrency | None = None
    has_installer: bool | None = None
    owners: Mapping[str, str] | None = None
    chain: Chain | None = None


@dataclass(frozen=True)
class Report:
    """All findings, in the order in which a person would mend them."""

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether no check failed. Warnings do not count."""
        return all(finding.state is not State.FAIL for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"healthy": self.healthy, "checks": [asdict(finding) for finding in self.findings]}


def judge(facts: Facts) -> Report:
    """What the facts mean."""
    found = [_python(facts.python), _packages(facts.packages), _pipeline(facts)]
    if facts.account is not None:
        found.append(_account(facts.account))
    if facts.concurrency is not None:
        found.append(_concurrency(facts.concurrency))
    if facts.has_installer is not None:
        found.append(_installer(facts.has_installer))
    if facts.owners is not None:
        found.append(_owners(facts.owners))
    if facts.chain is not None:
        found += _chain(facts.chain)
    if facts.file_system is not None:
        found.append(_file_system(facts.file_system))
    if facts.disk is not None:
        found.append(_disk(facts.disk))
    if facts.watching is not None:
        found.append(_watching(facts.watching))
    if facts.open_files is not None:
        found.append(_open_files(facts.open_files))
    if facts.clock is not None:
        found.append(_clock(facts.clock))
    return Report(tuple(found))


def _python(version: tuple[int, ...]) -> Finding:
    text = ".".join(map(str, version))
    if version < PYTHON:
        return Finding("python", State.FAIL, text, f"Silversmith needs Python {'.'.join(map(str, PYTHON))} or newer")
    return Finding("python", State.OK, text)


def _packages(packages: tuple[Package, ...]) -> Finding:
    shown = ", ".join(f"{one.name} {one.version}" for one in packages if one.version)
    missing = [one.name for one in packages if one.version is None]
    old = [one for one in packages if one.version is not None and numbers(one.version) < numbers(one.least)]
    if missing:
        return Finding("packages", State.FAIL, f"{', '.join(missing)}: not installed", "pip install silversmith")
    if old:
        wanted = " ".join(f"'{one.name}>={one.least}'" for one in old)
        told = ", ".join(f"{one.name} {one.version} is older than {one.least}" for one in old)
        return Finding("packages", State.FAIL, told, f"pip install --upgrade {wanted}")
    return Finding("packages", State.OK, shown)


def numbers(version: str) -> tuple[int, ...]:
    """The numbers at the beginning of a version: ``2.1.0rc1`` gives ``(2, 1, 0)``, and ``2.1`` is the same as that."""
    found: list[int] = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        found.append(int(digits))
        if digits != part:
            break
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def _pipeline(facts: Facts) -> Finding:
    if facts.pipeline is None:
        return Finding("pipeline", State.FAIL, facts.pipeline_problem, "mend it, or name another with --pipeline")
    return Finding("pipeline", State.OK, facts.pipeline)


def _account(account: Account) -> Finding:
    if account.problem:
        return Finding("account", State.FAIL, account.problem, "sign in, and run `silversmith doctor` again")
    return Finding("account", State.OK, f"{account.id} in {account.region}")


def _chain(chain: Chain) -> list[Finding]:
    if not chain.broken:
        return [Finding("chain", State.OK, chain.shown or "nothing is deployed yet")]
    return [Finding("chain", State.FAIL if each.is_known else State.WARN, each.found, each.do) for each in chain.broken]


def _concurrency(found: Concurrency) -> Finding:
    """https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html"""
    if found.limit is None:
        return Finding(
            "concurrency", State.WARN, f"the account's limit could not be asked: {found.problem}",
            "let who runs this call lambda:GetAccountSettings",
        )  # fmt: skip
    told = f"up to {found.wanted:,} invocations at once; the account allows {found.limit:,}"
    more = "ask AWS for more (Service Quotas, Lambda, Concurrent executions)"
    if found.reserved and found.reserved > found.limit - UNRESERVED:
        told += f", of which {UNRESERVED} must not be reserved, and {found.reserved:,} are reserved"
        return Finding("concurrency", State.FAIL, told, f"reserve less, or {more}")
    if found.wanted > found.limit:
        return Finding(
            "concurrency", State.WARN, f"{told}: under load Lambda refuses some, here and in the rest of the account",
            f"lower maximum_concurrency of transforms, reserve some for those that matter, or {more}",
        )  # fmt: skip
    return Finding("concurrency", State.OK, told)


def _installer(there: bool) -> Finding:
    if there:
        return Finding("uv", State.OK, "found: bundles can be made for Lambda's machines")
    return Finding(
        "uv", State.WARN, "not found: bundles can only be made of packages for a machine and Python like this",
        "pip install uv",
    )  # fmt: skip


def _owners(owners: Mapping[str, str]) -> Finding:
    if not owners:
        return Finding("silver", State.OK, "no other pipeline has it")
    told = "; ".join(f"{transform}: it is {owner}'s" for transform, owner in owners.items())
    return Finding(
        "silver", State.FAIL, told,
        "rename the transform, or use another bucket; if that pipeline is gone: silversmith take-over",
    )  # fmt: skip


def _file_system(found: FileSystem) -> Finding:
    if found.broken:
        told = "; ".join(f"{ability}: {said}" for ability, said in found.broken.items())
        return Finding(
            "file system", State.FAIL, f"{found.place}: {told}",
            "put the lake on a local disk that this user can write on: --lake DIR",
        )  # fmt: skip
    if found.apart:
        return Finding(
            "file system", State.FAIL, f"on another file system than {found.place}: {', '.join(found.apart)}",
            "have the whole lake on one: files are moved into place at once, which no two file systems can",
        )  # fmt: skip
    return Finding("file system", State.OK, f"{found.place}: rename, fsync and flock work")


def _disk(disk: Disk) -> Finding:
    told = f"{disk.free / 1e9:.1f} GB free"
    if disk.free < NO_ROOM:
        return Finding("disk", State.FAIL, told, "make room: a run ends as soon as the disk is full (nothing is lost)")
    if disk.inodes is not None and disk.inodes < FEW_INODES:
        more = f"{told}, but only {disk.inodes:,} more files"
        return Finding("disk", State.WARN, more, "remove files, or have the lake on a file system with more inodes")
    if disk.free < LITTLE_ROOM:
        return Finding("disk", State.WARN, told, "make room soon")
    return Finding("disk", State.OK, told)


def _watching(found: Watching) -> Finding:
    told = f"folders in bronze: {found.folders:,} of {found.watches:,} that may be watched"
    wanted = 1 << max(20, (2 * found.folders).bit_length())
    more = f"sudo sysctl fs.inotify.max_user_watches={wanted}"
    if found.folders > found.watches:
        return Finding("inotify", State.FAIL, told, more)
    if found.folders > found.watches * NEAR:
        return Finding("inotify", State.WARN, told, more)
    if found.queued < QUEUE:
        told = f"the kernel keeps {found.queued:,} events; of more at once it forgets some, and bronze is searched"
        return Finding("inotify", State.WARN, told, f"sudo sysctl fs.inotify.max_queued_events={QUEUE}")
    return Finding("inotify", State.OK, told)


def _open_files(limit: int) -> Finding:
    told = f"{limit:,} may be open at once"
    if limit < FEWEST_FILES:
        return Finding("open files", State.FAIL, told, f"ulimit -n {ENOUGH_FILES}")
    if limit < ENOUGH_FILES:
        return Finding("open files", State.WARN, told, f"ulimit -n {ENOUGH_FILES}")
    return Finding("open files", State.OK, told)


def _clock(clock: Clock) -> Finding:
    told = f"{datetime.fromtimestamp(clock.now, UTC):%Y-%m-%d %H:%M:%S} UTC"
    ahead = (clock.newest or 0.0) - clock.now
    if ahead > AHEAD:
        return Finding(
            "clock", State.WARN, f"{told}, but {clock.key} is of {ahead:,.0f} s later",
            "set the clock (timedatectl set-ntp true), or that of the machine which the file is from",
        )  # fmt: skip
    return Finding("clock", State.OK, told)
