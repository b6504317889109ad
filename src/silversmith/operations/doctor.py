"""Check everything that a pipeline needs to run here, or on AWS, and say what to do where something is missing.

Each ``check_…`` function judges values and does no I/O. The functions at the end look at this machine, at the lake's
disk and at AWS; they leave nothing behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from silversmith.errors import DefinitionError, SilversmithError, count
from silversmith.operations import WrongCall
from silversmith.pipeline import Located, Pipeline, Transform, needs
from silversmith.pipeline.deployment import Deployment, named
from silversmith.schemas import Owner
from silversmith.schemas.recorded import others
from silversmith.stores import Store

if TYPE_CHECKING:
    from silversmith.aws.account import Account
    from silversmith.operations.target import Target
    from silversmith.reconcile.hops import Hops

#: The oldest Python that is supported.
PYTHON = (3, 11)

#: With less room in bytes a run is about to fail, or soon will.
NO_ROOM, LITTLE_ROOM = 100_000_000, 2_000_000_000

#: With fewer free inodes a run will fail soon: each file in silver needs one, and its folders.
FEW_INODES = 10_000

#: From this share of a limit on, it is near.
NEAR = 0.8

#: The kernel drops events beyond its queue; the engine then searches all of bronze, which takes time.
QUEUE = 16_384

#: The engine needs so many open files for itself, and works well with so many.
FEWEST_FILES, ENOUGH_FILES = 256, 1024

#: So many of an account's concurrent invocations cannot be reserved.
#: https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
UNRESERVED = 100

#: A file's time may be so many seconds in the future: clocks of other machines differ.
AHEAD = 60.0


class State(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARN = "warn"  #: it works, but not for long, or not well
    FAIL = "fail"  #: it cannot work


@dataclass(frozen=True)
class Diagnosis:
    """One check: its ``name``, what was ``found``, and what to ``do`` about it; empty if nothing is to be done."""

    name: str
    state: State
    found: str
    do: str = ""


def is_healthy(findings: Sequence[Diagnosis]) -> bool:
    """Whether no check failed. Warnings do not count."""
    return all(finding.state is not State.FAIL for finding in findings)


def document(findings: Sequence[Diagnosis]) -> dict[str, Any]:
    """The findings as JSON values."""
    return {"healthy": is_healthy(findings), "checks": [asdict(finding) for finding in findings]}


def check_python(version: tuple[int, ...]) -> Diagnosis:
    """The version of Python."""
    text = ".".join(map(str, version))
    if version < PYTHON:
        return Diagnosis("python", State.FAIL, text, f"Silversmith needs Python {'.'.join(map(str, PYTHON))} or newer")
    return Diagnosis("python", State.OK, text)


def check_packages(packages: Mapping[str, tuple[str | None, str]]) -> Diagnosis:
    """By name the version that is installed, None where it is not, and the oldest that is supported, or empty."""
    missing = [name for name, (version, _) in packages.items() if version is None]
    if missing:
        return Diagnosis("packages", State.FAIL, f"{', '.join(missing)}: not installed", "pip install silversmith")
    old = {
        name: (version, least)
        for name, (version, least) in packages.items()
        if version_numbers(version or "") < version_numbers(least)
    }
    if old:
        problem = ", ".join(f"{name} {version} is older than {least}" for name, (version, least) in old.items())
        requirements = " ".join(f"'{name}>={least}'" for name, (_, least) in old.items())
        return Diagnosis("packages", State.FAIL, problem, f"pip install --upgrade {requirements}")
    return Diagnosis("packages", State.OK, ", ".join(f"{name} {version}" for name, (version, _) in packages.items()))


def version_numbers(version: str) -> tuple[int, ...]:
    """The numbers at the beginning of a version, without zeros at the end: ``2.1.0rc1`` gives ``(2, 1)``."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(number) for number in match[0].split(".")] if match else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def check_pipeline(pipeline: Pipeline | None, problem: str) -> Diagnosis:
    """``problem``: why it cannot be loaded."""
    if pipeline is None:
        return Diagnosis("pipeline", State.FAIL, problem, "correct it, or name another with --pipeline")
    transforms = ", ".join(transform.name for transform in pipeline.transforms)
    return Diagnosis("pipeline", State.OK, f"{pipeline.name}, transforms: {transforms}")


def check_concurrency(needed: int, reserved: int, limit: int | None, problem: str = "") -> Diagnosis:
    """Concurrent invocations: ``needed`` by the transforms together, ``reserved`` of these, and the account's limit;
    None where AWS does not say, with the ``problem``.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html
    """
    if limit is None:
        return Diagnosis(
            "concurrency", State.WARN, f"the account's limit could not be asked: {problem}",
            "let who runs this call lambda:GetAccountSettings",
        )  # fmt: skip
    text = f"up to {needed:,} invocations at once; the account allows {limit:,}"
    more = "ask AWS for more (Service Quotas, Lambda, Concurrent executions)"
    if reserved and reserved > limit - UNRESERVED:
        text += f", of which {UNRESERVED} must not be reserved, and {reserved:,} are reserved"
        return Diagnosis("concurrency", State.FAIL, text, f"reserve less, or {more}")
    if needed > limit:
        return Diagnosis(
            "concurrency", State.WARN, f"{text}: under load Lambda refuses some, here and in the rest of the account",
            f"lower maximum_concurrency of transforms, reserve some for those that matter, or {more}",
        )  # fmt: skip
    return Diagnosis("concurrency", State.OK, text)


def check_installer(is_installed: bool) -> Diagnosis:
    """Whether uv is there, which installs packages for Lambda's machines."""
    if is_installed:
        return Diagnosis("uv", State.OK, "found: bundles can be made for Lambda's machines")
    return Diagnosis(
        "uv", State.WARN, "not found: bundles can only be made of packages for a machine and Python like this",
        "pip install uv",
    )  # fmt: skip


def check_owners(owners: Mapping[str, str]) -> Diagnosis:
    """By transform the other pipeline that owns its silver."""
    if not owners:
        return Diagnosis("silver", State.OK, "no other pipeline has it")
    return Diagnosis(
        "silver", State.FAIL, "; ".join(f"{transform}: it is {owner}'s" for transform, owner in owners.items()),
        "rename the transform, or use another bucket; if that pipeline is gone: silversmith take-over",
    )  # fmt: skip


def check_secrets(transforms: Sequence[Transform], fetch: needs.Fetch) -> list[Diagnosis]:
    """Whether each secret that a transform declares is there: ``fetch`` raises where it is not."""
    declared = [(each.name, name, secret) for each in transforms for name, secret in each.secrets.items()]
    findings = []
    for transform, name, secret in declared:
        try:
            fetch(name, secret)
        except SilversmithError as error:
            state, do = State.FAIL, "until it is there, files fail for which the code asks for it"
            if not isinstance(error, needs.SecretMissing | DefinitionError):
                right = "ssm:GetParameter" if secret.parameter else "secretsmanager:DescribeSecret"
                state, do = State.WARN, f"whether it is there is unknown: let who runs this call {right} on it"
            findings.append(Diagnosis("secrets", state, f"{transform}: {error}", do))
    there = [Diagnosis("secrets", State.OK, f"{count(len(declared), 'secret')} of the transforms: there")]
    return findings or (there if declared else [])


def check_file_system(place: str, broken: Mapping[str, str], apart: Sequence[str] = ()) -> Diagnosis:
    """``broken``: the errors of the abilities that the file system lacks; ``apart``: the lake's folders on another."""
    if broken:
        problems = "; ".join(f"{ability}: {error}" for ability, error in broken.items())
        return Diagnosis(
            "file system", State.FAIL, f"{place}: {problems}",
            "put the lake on a local disk that this user can write on: --lake DIR",
        )  # fmt: skip
    if apart:
        return Diagnosis(
            "file system", State.FAIL, f"on another file system than {place}: {', '.join(apart)}",
            "have the whole lake on one: files are moved into place at once, which no two file systems can",
        )  # fmt: skip
    return Diagnosis("file system", State.OK, f"{place}: rename, fsync and flock work")


def check_disk(free: int, inodes: int | None) -> Diagnosis:
    """Free bytes and inodes; None: the file system does not count them."""
    text = f"{free / 1e9:.1f} GB free"
    if free < NO_ROOM:
        return Diagnosis(
            "disk", State.FAIL, text, "make room: a run ends as soon as the disk is full (nothing is lost)"
        )
    if inodes is not None and inodes < FEW_INODES:
        text = f"{text}, but only {inodes:,} more files"
        return Diagnosis("disk", State.WARN, text, "remove files, or have the lake on a file system with more inodes")
    if free < LITTLE_ROOM:
        return Diagnosis("disk", State.WARN, text, "make room soon")
    return Diagnosis("disk", State.OK, text)


def check_inotify(folders: int, watches: int, events: int) -> Diagnosis:
    """How many folders need a watch, and the limits of watches and of queued events."""
    text = f"folders in bronze: {folders:,} of {watches:,} that may be watched"
    more = f"sudo sysctl fs.inotify.max_user_watches={1 << max(20, (2 * folders).bit_length())}"
    if folders > watches:
        return Diagnosis("inotify", State.FAIL, text, more)
    if folders > watches * NEAR:
        return Diagnosis("inotify", State.WARN, text, more)
    if events < QUEUE:
        text = f"the kernel keeps {events:,} events; of more at once it forgets some, and bronze is searched"
        return Diagnosis("inotify", State.WARN, text, f"sudo sysctl fs.inotify.max_queued_events={QUEUE}")
    return Diagnosis("inotify", State.OK, text)


def check_open_files(limit: int) -> Diagnosis:
    """How many files this process may have open."""
    state = State.FAIL if limit < FEWEST_FILES else State.WARN if limit < ENOUGH_FILES else State.OK
    do = "" if state is State.OK else f"ulimit -n {ENOUGH_FILES}"
    return Diagnosis("open files", state, f"{limit:,} may be open at once", do)


def check_clock(now: float, newest: float | None, key: str = "") -> Diagnosis:
    """The time now, and that of the newest file in bronze, in Unix seconds."""
    text = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC"
    ahead = (newest or 0.0) - now
    if ahead > AHEAD:
        return Diagnosis(
            "clock", State.WARN, f"{text}, but {key} is of {ahead:,.0f} s later",
            "set the clock (timedatectl set-ntp true), or that of the machine which the file is from",
        )  # fmt: skip
    return Diagnosis("clock", State.OK, text)


def packages_and_pipeline(pipeline: Pipeline | None, problem: str) -> list[Diagnosis]:
    """The checks that every target needs."""
    return [check_python(sys.version_info[:3]), check_packages(packages()), check_pipeline(pipeline, problem)]


def machine_checks(located: Located | None, lake: Path) -> list[Diagnosis]:
    """Check this machine and the lake's disk."""
    pipeline = located.pipeline if located is not None else None
    from silversmith.local.lake import LakeFolder
    from silversmith.local.worker import from_machine
    from silversmith.operations.local import open_lake

    bronze = lake / (pipeline.bronze if pipeline else "dl-bronze-layer")
    findings = []
    if pipeline is not None and LakeFolder(lake).state.is_dir():  # to look would create its folders
        with contextlib.suppress(SilversmithError), open_lake(LakeFolder(lake), pipeline) as target:
            owners = other_owners(pipeline, target.owner, target.lake.silver, target.lake.quarantine)
            findings.append(check_owners(owners))
            findings += tables_check(pipeline, target)
    if located is not None:
        findings += check_secrets(located.pipeline.transforms, from_machine(located.root))
    findings += [check_file_system(*try_file_system(lake)), check_disk(*free_space(lake))]
    if (inotify := inotify_limits(bronze)) is not None:
        findings.append(check_inotify(*inotify))
    findings += [check_open_files(open_files()), check_clock(time.time(), *newest_file(bronze))]
    return findings + _alarms(located, lake)


def _alarms(located: Located | None, lake: Path) -> list[Diagnosis]:
    from silversmith.local.lake import LakeFolder
    from silversmith.operations.alarms import channels, local_conditions
    from silversmith.operations.target import AlarmState

    try:
        names = [channel.name for channel in channels()]
    except WrongCall as error:
        return [Diagnosis("alarms", State.FAIL, str(error), "correct the variable, or unset it")]
    conditions = local_conditions(located.names) if located is not None else ()
    if not names and not conditions:
        return []
    state = AlarmState.read(LakeFolder(lake).alarms)
    problems = {name: each.problem for name, each in state.channels.items() if each.problem and name in names}
    if problems:
        text = "; ".join(f"the {name} takes nothing: {problem}" for name, problem in problems.items())
        do = "correct the variable or the receiver: what is not delivered is sent again in the next run"
        return [Diagnosis("alarms", State.WARN, text, do)]
    if names and not conditions:
        text = f"{' and '.join(names)}, and no condition to tell them of"
        return [
            Diagnosis("alarms", State.WARN, text, 'Deployment(alarm_on=("quarantine", "rejected>5%", "silent>24h"))')
        ]
    return [Diagnosis("alarms", State.OK, f"go to the {' and the '.join(names)}" if names else "go nowhere")]


def aws_checks(located: Located | None, deployment: str, endpoint_url: str | None) -> list[Diagnosis]:
    """Check the account, and the stack of a deployment."""
    from silversmith.aws.account import NoAccount, NoRegion, open_account
    from silversmith.aws.packages import find_uv

    installer = check_installer(find_uv() is not None)
    try:
        account = open_account(endpoint_url=endpoint_url)
    except NoAccount as error:
        do = f"{'name the region' if isinstance(error, NoRegion) else 'sign in'}, and run `silversmith doctor` again"
        return [Diagnosis("account", State.FAIL, str(error), do), installer]
    findings = [Diagnosis("account", State.OK, f"{account.id} in {account.region}"), installer]
    if located is None:
        return findings
    pipeline = located.pipeline
    try:
        options = named(located.names, deployment)
    except DefinitionError as error:
        return [*findings, Diagnosis("chain", State.FAIL, str(error), "correct it, or name another with --deployment")]
    findings.append(concurrency(pipeline, options, account.client("lambda")))
    fetch = needs.from_aws(account.client, options.name(pipeline.name), values=False)
    findings += check_secrets(pipeline.transforms, fetch)
    for check in (_owners_on_aws, _tables_on_aws, _round_on_aws, _inventory_on_aws):
        with contextlib.suppress(SilversmithError):  # what cannot be asked, or is not deployed, is told elsewhere
            findings += check(pipeline, options, account)
    return findings + _chain(account, options.name(pipeline.name))


def _owners_on_aws(pipeline: Pipeline, options: Deployment, account: Account) -> list[Diagnosis]:
    from silversmith.aws.artefacts import existing_bucket
    from silversmith.aws.deploy import owner

    own = owner(pipeline, options)
    buckets = (existing_bucket(account, name) for name in (own.silver, own.quarantine))
    return [check_owners(other_owners(pipeline, own, *buckets))]


def _tables_on_aws(pipeline: Pipeline, options: Deployment, account: Account) -> list[Diagnosis]:
    from silversmith.operations.aws import open_stack

    if not pipeline.tables:
        return []
    with open_stack(account, options.name(pipeline.name), pipeline) as (deployed, target):
        return tables_check(deployed, target)


def _round_on_aws(pipeline: Pipeline, options: Deployment, account: Account) -> list[Diagnosis]:
    from silversmith.aws.artefacts import existing_bucket
    from silversmith.reconcile.lease import lease_key
    from silversmith.template.plan import physical

    if options.reconcile_hours == 0:
        return []
    quarantine = existing_bucket(account, options.bucket("quarantine", pipeline.quarantine))
    key = lease_key(physical(options.name(pipeline.name), kind="Reconciler"))
    return [round_check(quarantine, key, datetime.now(UTC))] if quarantine is not None else []


def _inventory_on_aws(pipeline: Pipeline, options: Deployment, account: Account) -> list[Diagnosis]:
    from silversmith.aws.artefacts import existing_bucket

    bronze, quarantine = (options.bucket(role, getattr(pipeline, role)) for role in ("bronze", "quarantine"))
    name, _, folder = options.inventory_folder(bronze, quarantine).partition("/")
    store = existing_bucket(account, name) if name else None
    return [inventory_check(store, folder, bronze, datetime.now(UTC))] if store is not None else []


def inventory_check(store: Store, folder: str, bronze: str, now: datetime) -> Diagnosis:
    """Check the age of the newest inventory of bronze, in a folder of a bucket."""
    from silversmith.reconcile.inventory import Inventories, InventoryUnusable

    try:
        hours = (now - Inventories(store, folder, bronze).newest(now).taken).total_seconds() / 3600
    except InventoryUnusable as error:
        return Diagnosis(
            "inventory", State.WARN, f"{error}; reconciliation lists bronze instead",
            "S3 delivers the first within 48 hours; then see bronze's inventory configuration, and the policy and keys "
            "of the bucket that it is delivered to",
        )  # fmt: skip
    return Diagnosis("inventory", State.OK, f"the newest one is of {hours:,.0f} hours ago")


def round_check(quarantine: Store, key: str, now: datetime) -> Diagnosis:
    """Check the last round of the deployed reconciler, whose lease has this key."""
    from silversmith.reconcile.lease import Lease, branch_key

    lease = Lease.from_json(quarantine.read(key) or b"")
    if lease is None:
        return Diagnosis("reconciliation", State.OK, "no round yet")
    if lease.phase == "done":
        return Diagnosis("reconciliation", State.OK, "the last round was completed")
    branches = lease.progress.get("branches")
    text = f"it is at its step {lease.step}"
    if isinstance(branches, int) and branches:
        leases = [Lease.from_json(quarantine.read(branch_key(key, number)) or b"") for number in range(branches)]
        through = sum(each is not None and each.phase == "done" and each.round == lease.round for each in leases)
        text = f"{through} of {branches} branches are through"
    if lease.binds(now):
        return Diagnosis("reconciliation", State.OK, f"a round is going on: {text}")
    return Diagnosis(
        "reconciliation", State.WARN, f"the last round was not completed: {text}",
        "the next round looks at everything; at once: silversmith reconcile --there --target aws",
    )  # fmt: skip


def _chain(account: Account, name: str) -> list[Diagnosis]:
    """The deployed ways of events from buckets to functions."""
    from silversmith.reconcile.hops import check

    try:
        stages = deployed_hops(account, name)
        problems = list(check(stages, account.client))
    except SilversmithError as error:
        do = "the policy of who looks must allow it: docs/operations.md#rights"
        return [Diagnosis("chain", State.WARN, str(error), do)]
    if not problems:
        text = "; ".join(f"EventBridge is on for {hops.bucket}, {hops} as deployed" for hops in stages)
        return [Diagnosis("chain", State.OK, text or "nothing is deployed yet")]
    return [Diagnosis("chain", State.FAIL if each.is_known else State.WARN, each.message, each.do) for each in problems]


def tables_check(pipeline: Pipeline, target: Target) -> list[Diagnosis]:
    """Check a sample of each table of a pipeline beside silver; nothing where it has none."""
    from silversmith.operations.tables import require_tables, sample

    if not pipeline.tables:
        return []
    try:
        require_tables(pipeline)
    except WrongCall as error:
        return [Diagnosis("tables", State.FAIL, str(error), "pip install 'silversmith[tables]'")]
    if not pipeline.tables.tables:  # the lineage alone, which the reconciler compares
        return []
    samples, unreadable = [], []
    for table in pipeline.tables.tables:
        try:
            samples.append(sample(table, target))
        except (SilversmithError, OSError) as error:
            unreadable.append(f"{table.name}: {error}")
    if unreadable:
        do = "see whether gold can be reached; a damaged table: move its folder away, silversmith tables rebuild NAME"
        return [Diagnosis("tables", State.FAIL, "; ".join(unreadable), do)]
    texts = [
        f"{each.table}: {each.differing:,} of {count(each.looked_at, 'file')} not as silver has them"
        if each.differing
        else f"{each.table}: version {'-' if each.version is None else each.version}"
        for each in samples
    ]
    if any(each.differing for each in samples):
        do = "silversmith reconcile sends them, unless they are on their way: silversmith status"
        return [Diagnosis("tables", State.WARN, "; ".join(texts), do)]
    return [Diagnosis("tables", State.OK, "; ".join(texts))]


def other_owners(pipeline: Pipeline, owner: Owner, silver: Store | None, quarantine: Store | None) -> dict[str, str]:
    """By transform the other pipelines that own its silver."""
    owners = {each.name: " and ".join(others(silver, quarantine, each.name, owner)) for each in pipeline.transforms}
    return {name: owner_names for name, owner_names in owners.items() if owner_names}


_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)[^;>]*(?:>=\s*([0-9.]+))?")


def packages(distribution: str = "silversmith") -> dict[str, tuple[str | None, str]]:
    """A distribution and its requirements on this machine, for :func:`check_packages`."""
    versions: dict[str, tuple[str | None, str]] = {distribution: (_version(distribution), "")}
    for line in metadata.requires(distribution) or []:
        requirement, _, condition = line.partition(";")
        match = _REQUIREMENT.match(requirement.strip())
        if match and "extra" not in condition and not (condition and _version(match[1]) is None):
            versions[match[1]] = (_version(match[1]), match[2] or "")
    return versions


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def deployed_hops(account: Account, name: str) -> list[Hops]:
    """The hops of a stack as they were deployed, by topic; empty: there is no stack, or it is empty.

    Raises:
        DeployError: the stack was not deployed by Silversmith.
        AccessDenied, AwsFailed: AWS does not describe it.
    """
    from silversmith.aws.stack import Stack

    stack = Stack(account, name)
    state = stack.state()
    if state is None or not {"BronzeBucketName", "TopicArn"} <= set(state.outputs):
        return []
    template: dict[str, Any] = stack.template()["Resources"]
    ids = {each["LogicalResourceId"]: each.get("PhysicalResourceId", "") for each in stack.resources()}
    return [
        _hops_of(topic, template, ids, account, bucket=state.outputs[bucket], arn=state.outputs[f"{topic}Arn"])
        for topic, bucket in (("Topic", "BronzeBucketName"), ("SilverTopic", "SilverBucketName"))
        if f"{topic}Arn" in state.outputs
    ]


def _hops_of(
    topic: str, template: Mapping[str, Any], ids: Mapping[str, str], account: Account, *, bucket: str, arn: str
) -> Hops:
    """The hops of one topic, by its logical id in the template, and the physical ids of resources by the logical."""
    from silversmith.reconcile.hops import Hops, Subscription

    def of_type(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        return ((logical, each["Properties"]) for logical, each in template.items() if each["Type"] == kind)

    def queue_arn(queue: str) -> str:
        return f"arn:{account.partition}:sqs:{account.region}:{account.id}:{ids.get(queue, queue).rpartition('/')[2]}"

    rules = (
        each.get("Name", ids.get(logical, ""))
        for logical, each in of_type("AWS::Events::Rule")
        if {"Ref": topic} in (target["Arn"] for target in each["Targets"])
    )
    filters = {
        each["Endpoint"]["Fn::GetAtt"][0]: each.get("FilterPolicy")
        for _, each in of_type("AWS::SNS::Subscription")
        if each["Protocol"] == "sqs" and each["TopicArn"] == {"Ref": topic}
    }
    mappings = (
        ids[logical]
        for logical, each in of_type("AWS::Lambda::EventSourceMapping")
        if each["EventSourceArn"]["Fn::GetAtt"][0] in filters and ids.get(logical)
    )
    subscriptions = (Subscription(queue_arn(queue), narrow) for queue, narrow in filters.items())
    return Hops(bucket, arn, tuple(rules), tuple(subscriptions), tuple(mappings))


def concurrency(pipeline: Pipeline, options: Deployment, functions: Any) -> Diagnosis:
    """Compare the concurrency of a deployment with the account's limit. ``functions``: a boto3 client of Lambda.

    https://docs.aws.amazon.com/lambda/latest/api/API_GetAccountSettings.html
    """
    from silversmith.template.transform import concurrency as most

    needed = sum(most(transform, options) for transform in pipeline.transforms)
    reserved = sum(options.number("reserved_concurrency", each.name) or 0 for each in pipeline.transforms)
    try:
        limit = functions.get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    except (BotoCoreError, ClientError) as error:
        return check_concurrency(needed, reserved, None, str(error))
    return check_concurrency(needed, reserved, int(limit))


def inotify_limits(bronze: Path, limits: Path = Path("/proc/sys/fs/inotify")) -> tuple[int, int, int] | None:
    """How many folders bronze has, and the limits of watches and events; None where there is no inotify."""
    try:
        watches, events = (int((limits / name).read_text()) for name in ("max_user_watches", "max_queued_events"))
    except (OSError, ValueError):
        return None
    return 1 + sum(1 for _ in _entries(bronze, folders=True)), watches, events


def free_space(lake: Path) -> tuple[int, int | None]:
    """Free bytes and inodes on the disk where the lake is, or would be."""
    counts = os.statvfs(_existing(lake))
    return counts.f_bavail * counts.f_frsize, counts.f_favail if counts.f_files else None


def open_files() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def newest_file(bronze: Path) -> tuple[float | None, str]:
    """The time of the newest file in bronze, and its key; None: there is no file."""
    newest = max(_entries(bronze, folders=False), key=lambda entry: entry[1], default=None)
    return (None, "") if newest is None else (newest[1], os.path.relpath(newest[0], bronze))


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(each for each in (folder, *folder.parents) if each.is_dir())


def try_file_system(lake: Path) -> tuple[str, dict[str, str], tuple[str, ...]]:
    """Try what the engine needs of the file system, in a temporary folder where the lake is, or would be.

    Returns the place, the errors by ability, and the lake's folders that are on another file system.
    """
    place = _existing(lake)
    folders = sorted(path for path in lake.iterdir() if path.is_dir()) if lake.is_dir() else []
    apart = tuple(path.name for path in folders if path.stat().st_dev != place.stat().st_dev)
    broken: dict[str, str] = {}
    try:
        with tempfile.TemporaryDirectory(prefix=".silversmith-doctor-", dir=place) as name:
            for ability, trial in _TRIALS.items():
                try:
                    error = trial(Path(name))
                except OSError as raised:
                    error = raised.strerror or str(raised)
                if error:
                    broken[ability] = error
    except OSError as raised:
        broken["write"] = raised.strerror or str(raised)
    return str(place), broken, apart


def _try_rename(folder: Path) -> str:
    """A file replaces another one at once."""
    old, new = folder / "old", folder / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    new.replace(old)
    return "" if old.read_bytes() == b"new" and not new.exists() else "the old file is still there"


def _try_fsync(folder: Path) -> str:
    """Files and folders can be made durable."""
    (folder / "file").write_bytes(b"x")
    for path in (folder / "file", folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return ""


def _try_flock(folder: Path) -> str:
    """A lock has one holder."""
    path = folder / "lock"
    with path.open("wb") as first, path.open("wb") as second:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return ""
    return "two could hold one lock"


_TRIALS: dict[str, Callable[[Path], str]] = {"rename": _try_rename, "fsync": _try_fsync, "flock": _try_flock}


def _entries(root: Path, *, folders: bool) -> Iterator[tuple[str, float]]:
    """Each folder, or each file, below a folder, with its modification time. Follows no link."""
    todo = [str(root)]
    while todo:
        with contextlib.suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder:
                    todo.append(entry.path)
                if is_folder == folders:
                    with contextlib.suppress(OSError):
                        yield entry.path, entry.stat(follow_symlinks=False).st_mtime
