"""A large file to S3: its parts side by side, and one request at the end that makes an object of them.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

#: Larger files go in parts, smaller ones in one request. In bytes; S3 takes at most 5 GiB in one request.
WHOLE = 32 * 1024 * 1024

#: Bytes of a part, while 10,000 of them are enough; so many are in memory at once as there are threads.
PART = 16 * 1024 * 1024
THREADS = 4

#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MOST_PARTS = 10_000


def part_size(size: int) -> int:
    """How large the parts of a file of ``size`` bytes are."""
    return max(PART, -(-size // MOST_PARTS))


def upload(
    client: Any, where: Mapping[str, str], file: int, *, metadata: Mapping[str, str], condition: Mapping[str, str]
) -> Any:
    """Upload an open file in parts, and return what CompleteMultipartUpload says.

    The condition is for that last request: only then does the object come to be. Whatever fails, no part stays behind,
    unless even the request for that fails: then the bucket's lifecycle rule removes them.
    """
    created = client.create_multipart_upload(**where, Metadata=dict(metadata), ChecksumAlgorithm="CRC32")
    upload_id = created["UploadId"]
    try:
        parts = _parts(client, {**where, "UploadId": upload_id}, file)
        return client.complete_multipart_upload(
            **where, UploadId=upload_id, MultipartUpload={"Parts": parts}, **condition
        )
    except BaseException:
        with suppress(ClientError, BotoCoreError):
            client.abort_multipart_upload(**where, UploadId=upload_id)
        raise


def _parts(client: Any, where: Mapping[str, str], file: int) -> list[dict[str, Any]]:
    size = os.fstat(file).st_size
    length = part_size(size)

    def send(number: int) -> dict[str, Any]:
        body = os.pread(file, length, (number - 1) * length)
        response = client.upload_part(**where, PartNumber=number, Body=body, ChecksumAlgorithm="CRC32")
        part = {"PartNumber": number, "ETag": response["ETag"]}
        if "ChecksumCRC32" in response:
            part["ChecksumCRC32"] = response["ChecksumCRC32"]
        return part

    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="s3-part")
    try:
        return [*pool.map(send, range(1, -(-size // length) + 1))]
    finally:
        pool.shutdown(cancel_futures=True)
