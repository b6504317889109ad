"""Finding out what ``doctor.py`` judges: looks at this machine and tries out the lake's disk. Leaves nothing behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from silversmith.operations.doctor import Chain, Clock, Concurrency, Disk, FileSystem, Package, Watching
from silversmith.pipeline import Pipeline
from silversmith.pipeline.deployment import Deployment

if TYPE_CHECKING:
    from silversmith.aws.account import Account
    from silversmith.reconcile.hops import Hops

#: Where Linux tells its inotify limits.
_INOTIFY = Path("/proc/sys/fs/inotify")

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)[^;>]*(?:>=\s*([0-9.]+))?")


def packages(distribution: str = "silversmith") -> tuple[Package, ...]:
    """A distribution and what it requires on this machine, each in the version that is installed."""
    found = [Package(distribution, _version(distribution), "")]
    for line in metadata.requires(distribution) or []:
        wanted, _, condition = line.partition(";")
        match = _REQUIREMENT.match(wanted.strip())
        if match and "extra" not in condition and not (condition and _version(match[1]) is None):
            found.append(Package(match[1], _version(match[1]), match[2] or ""))
    return tuple(found)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def chain(account: Account, name: str) -> Chain:
    """The hops of the stack of that name, each asked of AWS.

    Raises:
        DeployError: AWS does not tell of the stack.
    """
    from silversmith.reconcile.hops import check

    there = hops(account, name)
    if there is None:
        return Chain()
    return Chain(f"EventBridge is on for {there.bronze}; {there} as deployed", tuple(check(there, account.client)))


def hops(account: Account, name: str) -> Hops | None:
    """What the stack was deployed with; None: there is none, or nothing is in it yet."""
    from silversmith.aws.stack import Stack
    from silversmith.reconcile.hops import Hops, Subscription

    stack = Stack(account, name)
    state = stack.state()
    if state is None or not {"BronzeBucketName", "TopicArn"} <= set(state.outputs):
        return None
    template: dict[str, Any] = stack.template()["Resources"]
    ids = {each["LogicalResourceId"]: each.get("PhysicalResourceId", "") for each in stack.resources()}

    def of(kind: str) -> list[tuple[str, dict[str, Any]]]:
        return [(logical, each["Properties"]) for logical, each in template.items() if each["Type"] == kind]

    def arn(queue: str) -> str:
        return f"arn:{account.partition}:sqs:{account.region}:{account.id}:{ids.get(queue, queue).rpartition('/')[2]}"

    subscriptions = (
        Subscription(arn(each["Endpoint"]["Fn::GetAtt"][0]), each.get("FilterPolicy"))
        for _, each in of("AWS::SNS::Subscription")
        if each["Protocol"] == "sqs"
    )
    return Hops(
        state.outputs["BronzeBucketName"],
        state.outputs["TopicArn"],
        tuple(each.get("Name", ids.get(logical, "")) for logical, each in of("AWS::Events::Rule")),
        tuple(subscriptions),
        tuple(ids[logical] for logical, _ in of("AWS::Lambda::EventSourceMapping") if ids.get(logical)),
    )


def watching(bronze: Path, limits: Path = _INOTIFY) -> Watching | None:
    """What inotify allows, and how many folders bronze has; None where there is no inotify."""
    try:
        watches, queued = (int((limits / name).read_text()) for name in ("max_user_watches", "max_queued_events"))
    except (OSError, ValueError):
        return None
    return Watching(1 + sum(1 for _ in _entries(bronze, folders=True)), watches, queued)


def concurrency(pipeline: Pipeline, options: Deployment, functions: Any) -> Concurrency:
    """What the transforms of a deployment may come to, and what the account allows. ``functions``: a boto3 client of
    Lambda. https://docs.aws.amazon.com/lambda/latest/api/API_GetAccountSettings.html"""
    from silversmith.template.transform import concurrency as most

    wanted = sum(most(transform, options) for transform in pipeline.transforms)
    reserved = sum(options.number("reserved_concurrency", each.name) or 0 for each in pipeline.transforms)
    try:
        limit = functions.get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    except (BotoCoreError, ClientError) as error:
        return Concurrency(wanted, reserved, None, str(error))
    return Concurrency(wanted, reserved, int(limit))


def disk(lake: Path) -> Disk:
    """Room on the disk where the lake is, or would be."""
    there = existing(lake)
    counted = os.statvfs(there)
    return Disk(shutil.disk_usage(there).free, counted.f_favail if counted.f_files else None)


def open_files() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def clock(bronze: Path, now: float) -> Clock:
    """The time, beside that of the newest file in bronze."""
    newest, key = None, ""
    for path, changed in _entries(bronze, folders=False):
        if newest is None or changed > newest:
            newest, key = changed, path
    return Clock(now, newest, os.path.relpath(key, bronze) if key else "")


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return folder


def file_system(lake: Path) -> FileSystem:
    """What the file system can do where the lake is, or would be, tried out in a folder that goes again."""
    there = existing(lake)
    device = there.stat().st_dev
    apart = [name for name in _subfolders(lake) if (lake / name).stat().st_dev != device]
    broken: dict[str, str] = {}
    try:
        with tempfile.TemporaryDirectory(prefix=".silversmith-doctor-", dir=there) as name:
            for ability, trial in _TRIALS.items():
                if said := _tried(trial, Path(name)):
                    broken[ability] = said
    except OSError as error:
        broken["write"] = error.strerror or str(error)
    return FileSystem(str(there), broken, tuple(apart))


def _subfolders(lake: Path) -> list[str]:
    return sorted(path.name for path in lake.iterdir() if path.is_dir()) if lake.is_dir() else []


def _tried(trial: Callable[[Path], str], folder: Path) -> str:
    try:
        return trial(folder)
    except OSError as error:
        return error.strerror or str(error)


def _try_rename(folder: Path) -> str:
    """One file takes the place of another at once."""
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
    """A lock keeps a second holder out."""
    path = folder / "lock"
    with path.open("wb") as one, path.open("wb") as other:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return ""
    return "two could hold one lock"


_TRIALS: dict[str, Callable[[Path], str]] = {"rename": _try_rename, "fsync": _try_fsync, "flock": _try_flock}


def _entries(root: Path, *, folders: bool) -> Iterator[tuple[str, float]]:
    """Each folder, or each file, below one, with when it was changed. Follows no link."""
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
