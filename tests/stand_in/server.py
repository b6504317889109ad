"""S3's REST interface, as much of it as Silversmith speaks through boto3, on a socket of this machine.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

import base64
import hashlib
import io
import socket
import ssl
import struct
import tempfile
import threading
import time
import uuid
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

import boto3
from botocore.config import Config

from tests.stand_in.buckets import ALGORITHMS, Bucket, S3Error, Upload, Version, digest
from tests.stand_in.certificate import self_signed
from tests.stand_in.faults import Delay, Drop, Fault, Flip, Hang, Lag, Plan, Refuse, Request, Tear


@dataclass
class Answer:
    """An HTTP response."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class S3Server:
    """S3 on 127.0.0.1, in threads of this process, from ``__enter__`` to ``__exit__``.

    Args:
        plan: decides which request meets which fault; it may be replaced at any time.
        tls: whether it speaks HTTPS, with a certificate that its clients trust.
        clock: the time for ``Last-Modified``.
    """

    def __init__(
        self, *, plan: Plan = lambda _: None, tls: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self.plan = plan
        self.buckets: dict[str, Bucket] = {}
        #: Every request, in the order of arrival, and what happened to it.
        self.log: list[tuple[Request, Fault | None]] = []
        self._clock = clock
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._lock = threading.Lock()
        self._http = _Listener(self, tls=tls)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.end()

    @property
    def url(self) -> str:
        """The clients' endpoint."""
        return f"{'https' if self._http.certificate else 'http'}://127.0.0.1:{self._http.server_address[1]}"

    @property
    def certificate(self) -> Path | None:
        """The certificate for boto3's ``verify``; None without TLS."""
        return self._http.certificate

    def bucket(self, name: str, **options: Any) -> Bucket:
        """Make an empty bucket; the options are those of :class:`Bucket`."""
        self.buckets[name] = Bucket(name, clock=self._clock, **options)
        return self.buckets[name]

    def client(self, **config: Any) -> Any:
        """A boto3 client. ``config`` goes to botocore's Config; without it nothing is retried."""
        defaults = {"retries": {"total_max_attempts": 1}, "connect_timeout": 5, "read_timeout": 5}
        return _session().client(
            "s3",
            endpoint_url=self.url,
            verify=str(self.certificate) if self.certificate else None,
            config=Config(**{**defaults, **config}, s3={"addressing_style": "path"}),
        )

    def decide(self, request: Request) -> tuple[Request, Fault | None]:
        """The request with its number, and what shall happen to it."""
        with self._lock:
            self._counts[request.which] += 1
            numbered = replace(request, nth=self._counts[request.which])
            fault = self.plan(numbered)
            self.log.append((numbered, fault))
            return numbered, fault

    def perform(self, request: Request, *, lag: int = 0) -> Answer:
        """Do what a request asks for."""
        if request.bucket not in self.buckets:
            raise S3Error(404, "NoSuchBucket", "The specified bucket does not exist")
        bucket = self.buckets[request.bucket]
        if request.operation == "ListObjectsV2":
            return _list(bucket, request, lag)
        if request.operation not in OPERATIONS:
            raise S3Error(501, "NotImplemented", f"the stand-in has no {request.operation}")
        return OPERATIONS[request.operation](bucket, request)


@cache
def _session() -> Any:
    """One session for all: each would read the SDK's description of S3 again."""
    return boto3.session.Session("some", "thing", region_name="us-east-1")


def _get(bucket: Bucket, request: Request) -> Answer:
    version = bucket.find(request.key, request.query.get("versionId", ""))
    expected = _etag(request, "if-match")
    if expected not in {None, version.etag}:
        raise S3Error(412, "PreconditionFailed")
    headers = {
        **_written(bucket, version),
        **_tier(bucket, request),
        "Last-Modified": formatdate(version.modified, usegmt=True),
        "Accept-Ranges": "bytes",
        **{f"x-amz-meta-{name}": value for name, value in version.metadata.items()},
    }
    if "partNumber" in request.query:
        return _part(version, int(request.query["partNumber"]), headers)
    if request.range:
        first, last = _range(request.range, len(version.content))
        headers["Content-Range"] = f"bytes {first}-{last}/{len(version.content)}"
        # Of a range there is no checksum, but where it is just one part, which it never is here.
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
        return Answer(206, version.content[first : last + 1], headers)
    if version.checksum and request.headers.get("x-amz-checksum-mode") == "ENABLED":
        headers |= _checksum(version)
    return Answer(200, version.content, headers)


def _tier(bucket: Bucket, request: Request) -> dict[str, str]:
    """The headers of an object that is archived, encoded, or encrypted with a key that the caller may not use.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html

    Raises:
        S3Error: the object is to be read, and may not be.
    """
    key, storage = request.key, _storage(bucket, request.key)
    tier, is_read = bucket.archived.get(key, ""), request.operation == "GetObject"
    if tier and is_read:
        access = f"<AccessTier>{tier}</AccessTier>" if tier != storage else ""
        message = "The operation is not valid for the object's storage class"
        raise S3Error(403, "InvalidObjectState", message, f"<StorageClass>{storage}</StorageClass>{access}")
    if key in bucket.forbidden and (is_read or not bucket.forbidden[key]):
        action = "kms:Decrypt" if bucket.forbidden[key] else "s3:GetObject"
        who = "arn:aws:sts::111122223333:assumed-role/shop-orders/shop-orders"
        raise S3Error(403, "AccessDenied", f"User: {who} is not authorized to perform: {action}")
    headers = {"x-amz-storage-class": storage} if storage != "STANDARD" else {}
    headers |= {"x-amz-archive-status": tier} if tier not in {"", storage} else {}
    headers |= {"x-amz-restore": 'ongoing-request="false", expiry-date="x"'} if key in bucket.restored else {}
    headers |= {"Content-Encoding": bucket.encodings[key]} if key in bucket.encodings else {}
    kms_key = bucket.forbidden.get(key)
    return headers | ({"x-amz-server-side-encryption-aws-kms-key-id": kms_key} if kms_key else {})


def _part(version: Version, number: int, headers: dict[str, str]) -> Answer:
    """One part of an object; all of it is the first part of what was uploaded at once.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    """
    sizes = version.parts or (len(version.content),)
    if not 1 <= number <= len(sizes):
        raise S3Error(416, "InvalidPartNumber", "The requested partnumber is not satisfiable")
    first = sum(sizes[: number - 1])
    body = version.content[first : first + sizes[number - 1]]
    headers["Content-Range"] = f"bytes {first}-{first + len(body) - 1}/{len(version.content)}"
    if version.parts:
        headers["x-amz-mp-parts-count"] = str(len(sizes))
    return Answer(206, body, headers)


def _range(text: str, size: int) -> tuple[int, int]:
    """The first and the last byte that are asked for: ``bytes=0-99``, ``bytes=5-``, ``bytes=-5``."""
    first, _, last = text.removeprefix("bytes=").partition("-")
    begin = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if begin > end:
        raise S3Error(416, "InvalidRange", "The requested range is not satisfiable")
    return begin, end


def _put(bucket: Bucket, request: Request) -> Answer:
    version = bucket.put(
        request.key,
        request.body,
        metadata=_metadata(request),
        checksum=_verified(request),
        encryption=request.headers.get("x-amz-server-side-encryption", ""),
        if_match=_etag(request, "if-match"),
        if_none_match=request.headers.get("if-none-match"),
    )
    return Answer(200, headers=_written(bucket, version) | (_checksum(version) if version.checksum else {}))


def _delete(bucket: Bucket, request: Request) -> Answer:
    version = bucket.delete(request.key, if_match=_etag(request, "if-match"))
    marker = {"x-amz-delete-marker": "true", "x-amz-version-id": version.id} if version and version.id else {}
    return Answer(204, headers=marker)


def _list(bucket: Bucket, request: Request, lag: int) -> Answer:
    query = request.query
    most = int(query.get("max-keys", 1000))
    after = unquote(query.get("continuation-token", "")) or query.get("start-after", "")
    matching = [
        version
        for version in bucket.objects(before=lag)
        if version.key.startswith(request.key) and version.key.encode() > after.encode()
    ]
    page = matching[:most]
    entries = "".join(
        f"<Contents><Key>{quote(version.key)}</Key><LastModified>{_iso(version.modified)}</LastModified>"
        f"<ETag>&quot;{version.etag}&quot;</ETag><Size>{len(version.content)}</Size>"
        f"<StorageClass>{_storage(bucket, version.key)}</StorageClass></Contents>"
        for version in page
    )
    is_cut = len(page) < len(matching)
    token = f"<NextContinuationToken>{quote(page[-1].key)}</NextContinuationToken>" if is_cut else ""
    return _xml(
        "ListBucketResult",
        f"<Name>{bucket.name}</Name><KeyCount>{len(page)}</KeyCount><MaxKeys>{most}</MaxKeys>"
        f"<EncodingType>url</EncodingType><IsTruncated>{str(is_cut).lower()}</IsTruncated>{token}{entries}",
    )


def _storage(bucket: Bucket, key: str) -> str:
    tier = bucket.archived.get(key, "")
    return "INTELLIGENT_TIERING" if tier.endswith("ACCESS") else tier or bucket.storage.get(key, "STANDARD")


def _create_upload(bucket: Bucket, request: Request) -> Answer:
    algorithm = request.headers.get("x-amz-checksum-algorithm", bucket.checksum or "").lower() or None
    kind = request.headers.get("x-amz-checksum-type", "FULL_OBJECT" if algorithm == "crc64nvme" else "COMPOSITE")
    upload_id = uuid.uuid4().hex
    encryption = request.headers.get("x-amz-server-side-encryption", bucket.encryption)
    bucket.uploads[upload_id] = Upload(request.key, _metadata(request), algorithm, kind, encryption)
    return _xml("InitiateMultipartUploadResult", f"<UploadId>{upload_id}</UploadId>")


def _upload_part(bucket: Bucket, request: Request) -> Answer:
    checksum = _verified(request)
    upload = bucket.upload(request.query["uploadId"])
    upload.parts[int(request.query["partNumber"])] = request.body
    headers = {"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'}
    return Answer(headers=headers | ({f"x-amz-checksum-{checksum[0]}": checksum[1]} if checksum else {}))


def _complete_upload(bucket: Bucket, request: Request) -> Answer:
    numbers = [
        int(number.text or 0) for number in ET.fromstring(request.body).iter() if number.tag.endswith("PartNumber")
    ]
    version = bucket.complete(
        request.query["uploadId"],
        numbers,
        if_match=_etag(request, "if-match"),
        if_none_match=request.headers.get("if-none-match"),
    )
    return _xml("CompleteMultipartUploadResult", f"<ETag>&quot;{version.etag}&quot;</ETag>", _written(bucket, version))


def _abort_upload(bucket: Bucket, request: Request) -> Answer:
    bucket.upload(request.query["uploadId"])
    del bucket.uploads[request.query["uploadId"]]
    return Answer(204)


def _head_bucket(bucket: Bucket, request: Request) -> Answer:
    """The SDK asks for a bucket's region when a HEAD was refused: its answer has no body to say why."""
    return Answer(headers={"x-amz-bucket-region": "us-east-1"})


OPERATIONS: Mapping[str, Callable[[Bucket, Request], Answer]] = {
    "HeadBucket": _head_bucket,
    "GetObject": _get,
    "HeadObject": _get,
    "PutObject": _put,
    "DeleteObject": _delete,
    "CreateMultipartUpload": _create_upload,
    "UploadPart": _upload_part,
    "CompleteMultipartUpload": _complete_upload,
    "AbortMultipartUpload": _abort_upload,
}


def _operation(method: str, query: Mapping[str, str], key: str) -> str:
    if not key:
        return "ListObjectsV2" if method == "GET" else f"{method.title()}Bucket"
    if "uploads" in query:
        return "CreateMultipartUpload"
    if "uploadId" in query:
        return {"PUT": "UploadPart", "POST": "CompleteMultipartUpload"}.get(method, "AbortMultipartUpload")
    return f"{method.title()}Object"


def _written(bucket: Bucket, version: Version) -> dict[str, str]:
    headers = {"ETag": f'"{version.etag}"', "x-amz-server-side-encryption": version.encryption}
    if bucket.versioned:
        headers["x-amz-version-id"] = version.id or "null"
    return headers


def _checksum(version: Version) -> dict[str, str]:
    assert version.checksum is not None
    return {f"x-amz-checksum-{version.checksum[0]}": version.checksum[1], "x-amz-checksum-type": version.kind}


def _metadata(request: Request) -> dict[str, str]:
    prefix = "x-amz-meta-"
    return {name.removeprefix(prefix): value for name, value in request.headers.items() if name.startswith(prefix)}


def _etag(request: Request, header: str) -> str | None:
    return request.headers[header].strip('"') if header in request.headers else None


def _verified(request: Request) -> tuple[str, str] | None:
    """The checksum that came with a body, as header or trailer, if the body is what it says."""
    md5 = request.headers.get("content-md5")
    if md5 and md5 != base64.b64encode(hashlib.md5(request.body).digest()).decode():
        raise S3Error(400, "BadDigest")
    for algorithm in ALGORITHMS:
        checksum = request.headers.get(f"x-amz-checksum-{algorithm}")
        if checksum:
            if checksum != digest(algorithm, request.body):
                raise S3Error(400, "BadDigest", f"The {algorithm} you specified did not match what we received.")
            return algorithm, checksum
    return None


def _unchunked(stream: Any, trailers: dict[str, str]) -> bytes:
    """The body in a stream of chunks, HTTP's or those of aws-chunked; what follows them goes into ``trailers``.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
    """
    pieces = []
    while size := int(stream.readline().partition(b";")[0], 16):
        pieces.append(stream.read(size))
        stream.readline()
    while line := stream.readline().strip():
        name, _, value = line.decode().partition(":")
        trailers[name.strip().lower()] = value.strip()
    return b"".join(pieces)


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def _xml(root: str, content: str, headers: dict[str, str] | None = None, status: int = 200) -> Answer:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}>{content}</{root}>'.encode()
    return Answer(status, body, {"Content-Type": "application/xml", **(headers or {})})


class _Listener(ThreadingHTTPServer):
    """One thread for each connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, s3: S3Server, *, tls: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.s3 = s3
        self.certificate: Path | None = None
        self._connections: set[socket.socket] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="s3-stand-in-") if tls else None
        if self._folder is not None:
            self.certificate, key = self_signed(Path(self._folder.name))
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(self.certificate, key)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread, so that no handshake holds up others."""
        if self.certificate is not None:
            try:
                request = self._tls.wrap_socket(request, server_side=True)
            except (OSError, ssl.SSLError):
                return
        self._connections.add(request)
        try:
            super().finish_request(request, client_address)
        finally:
            self._connections.discard(request)
            with suppress(OSError):
                request.close()  # a TLS socket, too, without a close_notify

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what the tests are about."""

    def end(self) -> None:
        """Close all connections: kept alive, or hanging."""
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()
        if self._folder is not None:
            self._folder.cleanup()


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def log_message(self, *_: object) -> None:
        """The log is the server's."""

    def __getattr__(self, name: str) -> Callable[[], None]:
        """The base class looks for a method for each of HTTP's: ``do_GET``, ``do_PUT``."""
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        request, fault = self.server.s3.decide(self._read())
        match fault:
            case Delay(seconds):
                time.sleep(seconds)
            case Refuse(status, code, message, applied):
                if applied:
                    self._perform(request)
                self._send(request, _error(S3Error(status, code, message)))
                return
            case Drop(applied) | Hang(applied):
                if applied:
                    self._perform(request)
                if isinstance(fault, Hang):
                    with suppress(OSError):
                        self.connection.recv(1)  # until the client closes, or the server ends
                self.close_connection = True
                return
        answer = self._perform(request, lag=fault.writes if isinstance(fault, Lag) else 0)
        if isinstance(fault, Flip) and answer.body:
            at = fault.at % len(answer.body)
            answer.body = answer.body[:at] + bytes([answer.body[at] ^ 1]) + answer.body[at + 1 :]
        self._send(request, answer, tear=fault if isinstance(fault, Tear) else None)

    def _read(self) -> Request:
        path, _, text = self.path.partition("?")
        query = dict(parse_qsl(text, keep_blank_values=True))
        headers = {name.lower(): value for name, value in self.headers.items()}
        bucket, _, key = path[1:].partition("/")
        if "transfer-encoding" in headers:
            body = _unchunked(self.rfile, {})
        else:
            body = self.rfile.read(int(headers.get("content-length", 0)))
        if "aws-chunked" in headers.get("content-encoding", ""):
            body = _unchunked(io.BytesIO(body), headers)
        return Request(
            _operation(self.command, query, key),
            bucket,
            unquote(key) or query.get("prefix", ""),
            headers.get("range", ""),
            nth=0,
            query=query,
            headers=headers,
            body=body,
        )

    def _perform(self, request: Request, *, lag: int = 0) -> Answer:
        try:
            return self.server.s3.perform(request, lag=lag)
        except S3Error as error:
            return _error(error)

    def _send(self, request: Request, answer: Answer, tear: Tear | None = None) -> None:
        lines = [
            f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
            f"x-amz-request-id: {uuid.uuid4().hex[:16].upper()}",
            f"Date: {formatdate(usegmt=True)}",
            *(f"{name}: {value}" for name, value in answer.headers.items()),
            *([f"Content-Length: {len(answer.body)}"] if answer.status != 204 else []),
        ]
        body = b"" if self.command == "HEAD" else answer.body
        if tear is not None:
            body = body[: min(tear.after, len(body) - 1)] if body else b""
            self.close_connection = True
        # A HEAD, and whatever has no body, is torn in its first line.
        whole = "\r\n".join([*lines, "", ""]).encode() + body
        self.wfile.write(whole[:7] if tear is not None and (self.command == "HEAD" or not answer.body) else whole)
        if tear is not None and tear.reset:
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _error(error: S3Error) -> Answer:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""
    content = f"<Code>{error.code}</Code><Message>{escape(error.message)}</Message><RequestId>1</RequestId>{error.more}"
    return _xml("Error", content, status=error.status)
