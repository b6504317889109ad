"""MiniStack: AWS on this machine, which others wrote. https://pypi.org/project/ministack/

It is installed into an environment of its own, because it pins botocore, and runs there with IAM enforced (``AUTH``),
over TLS, for the policies refuse anything else, and with every function in processes of its own. docs/stand-ins.md
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import boto3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from silversmith.aws.packages import find_uv

#: MiniStack pins botocore; boto3, which Lambda's own Python has, is of the same version.
PACKAGES = ("ministack==1.5.33", "boto3==1.43.106")

#: MiniStack's program, as the tests need it.
SERVER = Path(__file__).with_name("ministack_server.py")

REGION, ACCOUNT = "eu-central-1", "123456789012"

#: Credentials that are a number of twelve digits are those of that account's root.
ROOT = {"AWS_ACCESS_KEY_ID": ACCOUNT, "AWS_SECRET_ACCESS_KEY": "test"}

#: Seconds for whatever is waited for, on a slow and busy machine.
PATIENCE = 150


class NotInstalled(Exception):
    """MiniStack is not available here: the package index is out of reach, say."""


def install(python: str, folder: Path) -> Path:
    """The program, installed on first use; ``folder`` is kept for the next time.

    Raises:
        NotInstalled: with what the installer said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program, uv = folder / "venv/bin/ministack", find_uv()
    assert uv is not None, "uv is among the development tools"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "done").exists():
            return program
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", python, str(folder / "venv")],
            [uv, "pip", "install", "--quiet", "--python", str(folder / "venv/bin/python"), *PACKAGES],
        ):
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
            if done.returncode:
                raise NotInstalled(done.stderr.strip())
        (folder / "done").touch()
    return program


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ministack")])
    now = datetime.now(UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    created = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "server.crt", folder / "server.key"
    paths[0].write_bytes(created.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[1].write_bytes(key.private_bytes(*form))
    return paths


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def with_batches(policy: Mapping[str, Any]) -> dict[str, Any]:
    """The policy as MiniStack wants it: there a batch of SQS's is a right of its own, which AWS does not know.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-batch-api.html
    """

    def wider(statement: Mapping[str, Any]) -> dict[str, Any]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        batches = [f"{action}Batch" for action in actions if action in _IN_BATCHES]
        return {**statement, "Action": [*actions, *batches]}

    return {**policy, "Statement": [wider(statement) for statement in policy["Statement"]]}


_IN_BATCHES = {"sqs:SendMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"}


@dataclass
class MiniStack:
    """A server, and the folder in which it keeps what it keeps."""

    program: Path
    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        (self.folder / "tmp").mkdir()
        self.certificate, self._key = certificate(self.folder)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that make an AWS client one of this server's, with all rights."""
        return {**ROOT, "AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION, "AWS_CA_BUNDLE": str(self.certificate)}

    def start(self) -> None:
        """S3's objects are kept as they come, the rest only when it is stopped as it should be."""
        kept = {"STATE_DIR": str(self.folder / "state"), "S3_DATA_DIR": str(self.folder / "s3")}
        options = {
            "AUTH": "true", "USE_SSL": "1", "PERSIST_STATE": "1", "S3_PERSIST": "1", **kept,
            "MINISTACK_SSL_CERT": str(self.certificate), "MINISTACK_SSL_KEY": str(self._key),
            "BIND_HOST": "127.0.0.1", "MINISTACK_HOST": "127.0.0.1", "GATEWAY_PORT": str(self.port),
            "MINISTACK_ACCOUNT_ID": ACCOUNT, "MINISTACK_REGION": REGION, "IOT_MTLS_ENABLED": "0",
            "AWS_CA_BUNDLE": str(self.certificate), "SSL_CERT_FILE": str(self.certificate),
            "TMPDIR": str(self.folder / "tmp"),
        }  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.program.with_name("python")), "-P", str(SERVER)],  # -P: beside it is a module ``ministack``
                env={"PATH": f"{self.program.parent}{os.pathsep}{os.defpath}", "HOME": str(self.folder), **options},
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.until(self._answers, "the server answers")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"MiniStack ended:\n{self.log()}"
        trusts = ssl.create_default_context(cafile=str(self.certificate))
        try:
            with urllib.request.urlopen(f"{self.url}/_ministack/health", context=trusts, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the server, and with SIGKILL all that it started, in the middle of whatever they do."""
        if self.process is None:
            return
        if number is signal.SIGKILL:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        self.process.wait(PATIENCE)
        self.process = None

    def client(self, service: str, **credentials: str) -> Any:
        inputs = {**ROOT, **credentials}
        session = boto3.session.Session(
            inputs["AWS_ACCESS_KEY_ID"], inputs["AWS_SECRET_ACCESS_KEY"], region_name=REGION
        )
        return session.client(service, endpoint_url=self.url, verify=str(self.certificate))

    def log(self) -> str:
        """The server's last lines, except those about its own connections."""
        lines = (self.folder / "log").read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if line.startswith(("20", "{")) and "[asyncio]" not in line)[-6000:]

    def until(self, holds: Callable[[], object], what: str) -> None:
        """Ask again and again, until it holds."""
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end, f"{what}: not within {PATIENCE} seconds\n{self.log()}"
            time.sleep(0.2)

    def operator(self, policy: Mapping[str, Any]) -> dict[str, str]:
        """Credentials of a new user with this policy and no more."""
        iam, document = self.client("iam"), json.dumps(with_batches(policy))
        iam.create_user(UserName="operator")
        iam.put_user_policy(UserName="operator", PolicyName="Operates", PolicyDocument=document)
        key = iam.create_access_key(UserName="operator")["AccessKey"]
        return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
