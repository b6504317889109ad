"""The bundle as a container image: the folder that any builder makes it of, the commands for that, and its URI.

The image holds the same files as the zip, on AWS's own image of Python. Nothing here builds or pushes.
docs/decisions/0162-an-image-is-built-by-its-user.md
https://docs.aws.amazon.com/lambda/latest/dg/python-image.html
"""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from silversmith.aws.account import Account, BundleError, DeployError
from silversmith.aws.bundle import Bundle, Tree
from silversmith.aws.packages import Runtime
from silversmith.aws.stack import StackState
from silversmith.template.functions import IMAGE, LONGEST_IMAGE
from silversmith.template.transform import HANDLER

#: The most bytes that an image may have, uncompressed, with all its layers.
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MOST_BYTES = 10 * 1024**3

#: The first line of the Dockerfile, by which a folder is known as one of these.
_MARK = "# Made by `silversmith bundle`: it is replaced as a whole."

#: The folders of a context, in the order in which they are copied: packages change less often than code.
_PACKAGES, _CODE = "packages", "code"

_URI = re.compile(
    r"\d{12}\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.(com|com\.cn)/[a-z0-9][a-z0-9._/-]*"
    r"(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|@sha256:[0-9a-f]{64})"
)

_PLATFORMS = {"arm64": "linux/arm64", "x86_64": "linux/amd64"}


def dockerfile(runtime: Runtime) -> str:
    """The Dockerfile of a context. Other functions than the transforms' override the command."""
    return (
        f"{_MARK}\n"
        f"FROM public.ecr.aws/lambda/python:{runtime.python}-{runtime.architecture}\n"
        f"COPY {_PACKAGES}/ /var/task/\n"
        f"COPY {_CODE}/ /var/task/\n"
        f'CMD ["{HANDLER}"]\n'
    )


def write_context(bundle: Bundle, folder: Path) -> Path:
    """Write what a builder needs into a folder, in the place of an earlier one, whole or not at all; return the folder.

    Raises:
        BundleError: the folder has something else in it.
    """
    if folder.exists() and not _is_replaceable(folder):
        raise BundleError(f"{folder} is there already, and no folder of an image: name another one with --output")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as work:
        written = Path(work, "context")
        written.mkdir()
        for name, tree in ((_PACKAGES, bundle.packages), (_CODE, bundle.function)):
            _copy(tree, written / name)
        (written / "Dockerfile").write_text(dockerfile(bundle.runtime), "ascii")
        if folder.exists():
            folder.rename(Path(work, "former"))
        written.rename(folder)
    return folder


def _is_replaceable(folder: Path) -> bool:
    if not folder.is_dir() or folder.is_symlink():
        return False
    file = folder / "Dockerfile"
    return not any(folder.iterdir()) or (file.is_file() and file.read_bytes().startswith(_MARK.encode()))


def _copy(tree: Tree, folder: Path) -> None:
    """Lambda runs as a user of its own, who must be able to read whatever umask is set here."""
    folder.mkdir(mode=0o755)
    for name, source in sorted(tree.items()):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o644)
    for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        inner.chmod(0o755)


@dataclass(frozen=True)
class Push:
    """How an image gets into the account: ``uri`` is its name there, ``commands`` are for a shell, in this order."""

    uri: str
    commands: tuple[str, ...]


def push(account: Account, name: str, bundle: Bundle, context: Path) -> Push:
    """The commands that build and push the image of the stack ``name``. Its tag is made of the content, for Lambda does
    not notice that a tag has moved. Lambda takes no image with an attestation of its provenance."""
    suffix = ".cn" if account.partition == "aws-cn" else ""
    registry = f"{account.id}.dkr.ecr.{account.region}.amazonaws.com{suffix}"
    uri = f"{registry}/{name}:{bundle.function_digest}"
    region = f"--region {account.region}"
    login = f"docker login --username AWS --password-stdin {registry}"
    build = f"docker buildx build --platform {_PLATFORMS[bundle.runtime.architecture]} --provenance=false"
    return Push(
        uri,
        (
            f"aws ecr create-repository {region} --repository-name {name}",
            f"aws ecr get-login-password {region} | {login}",
            f"{build} --tag {uri} --push {shlex.quote(str(context))}",
        ),
    )


def check_uri(uri: str, account: Account) -> None:
    """Refuse the URI of an image that Lambda would refuse.

    Raises:
        DeployError: it names no image in ECR, or one in another region.
    """
    parts = _URI.fullmatch(uri)
    if parts is None:
        raise DeployError(
            f"{uri!r} is no image in ECR, with its tag or digest: they look like "
            f"{account.id}.dkr.ecr.{account.region}.amazonaws.com/name:tag, or …/name@sha256:… with 64 hex digits"
        )
    if len(uri) > LONGEST_IMAGE:
        raise DeployError(f"{uri!r} has {len(uri)} characters, and {LONGEST_IMAGE} are the most: shorten the name")
    if parts["region"] != account.region:
        raise DeployError(
            f"the image {uri} is in {parts['region']}, and the stack would be in {account.region}: Lambda takes images "
            "of its own region. Push it there, too"
        )


def with_uri(
    parameters: Mapping[str, str], name: str, template: Mapping[str, Any], state: StackState | None
) -> Mapping[str, str]:
    """The parameters of the stack ``name`` for a template, with the image that is deployed where they name none.

    Raises:
        DeployError: none is deployed; or the stack's functions run from zips and are to run from an image, or the other
            way round, which AWS cannot change of a function that keeps its name.
            https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-lambda-function.html
    """
    deployed = state.parameters if state is not None and state.status != "REVIEW_IN_PROGRESS" else {}
    has_image = IMAGE in template["Parameters"]
    if deployed and has_image != (IMAGE in deployed):
        before, after = ("zips", "an image") if has_image else ("an image", "zips")
        raise DeployError(
            f"the functions of the stack {name} run from {before}, and would run from {after}: AWS cannot change that "
            "of a function. Destroy the stack first, with `silversmith destroy`: its buckets stay, and the next deploy "
            "takes them into the new stack. Or deploy another stack beside it, with a prefix"
        )
    if not has_image or IMAGE in parameters:
        return parameters
    if IMAGE not in deployed:
        raise DeployError(f"the stack {name} needs an image: `silversmith deploy` says how to build and push one")
    return {**parameters, IMAGE: deployed[IMAGE]}
