"""A store that does what the function's role in the template allows, and nothing else: IAM on a laptop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from silversmith.errors import AccessDenied
from silversmith.stores import Head, Put, Source, Store

#: Raises AccessDenied unless the action (``s3:GetObject``) is allowed on the resource (an ARN).
Check = Callable[[str, str], None]


class GuardedStore:
    """A :class:`~silversmith.stores.Store` whose every call is checked first, under the actions that S3 would check.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html

    Args:
        store: what does the work.
        arn: the bucket's ARN.
        check: raises AccessDenied for what no policy allows.
    """

    def __init__(self, store: Store, *, arn: str, check: Check) -> None:
        self._store = store
        self._arn = arn
        self._check = check

    def _object(self, action: str, key: str) -> None:
        self._check(action, f"{self._arn}/{key}")

    def _missing(self) -> None:
        """S3 tells that there is no such object only to those who may list the bucket; others get 403."""
        self._check("s3:ListBucket", self._arn)

    def _comparing(self, key: str, if_match: str | None) -> None:
        """To compare an object's etag is to read it; whether there is one at all, who writes it may know.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-delete-enforce.html
        """
        if if_match is not None:
            self._object("s3:GetObject", key)

    def head(self, key: str) -> Head | None:
        self._object("s3:GetObject", key)
        found = self._store.head(key)
        if found is None:
            self._missing()
        return found

    @contextmanager
    def open(self, key: str) -> Iterator[Source | None]:
        self._object("s3:GetObject", key)
        with self._store.open(key) as source:
            if source is None:
                self._missing()
            yield source

    def verify(self, source: Source) -> None:
        self._store.verify(source)

    def read(self, key: str) -> bytes | None:
        self._object("s3:GetObject", key)
        found = self._store.read(key)
        if found is None:
            self._missing()
        return found

    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> str:
        self._object("s3:PutObject", key)
        self._comparing(key, if_match)
        return self._store.put(key, body, metadata=metadata, if_match=if_match, if_none_match=if_none_match)

    def put_all(self, puts: Sequence[Put]) -> list[str | Exception]:
        refusals = [self._refusal(put) for put in puts]
        allowed = [put for put, refusal in zip(puts, refusals, strict=True) if refusal is None]
        made = iter(self._store.put_all(allowed))
        return [next(made) if refusal is None else refusal for refusal in refusals]

    def _refusal(self, put: Put) -> AccessDenied | None:
        try:
            self._object("s3:PutObject", put.key)
            self._comparing(put.key, put.if_match)
        except AccessDenied as error:
            return error
        return None

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        self._object("s3:DeleteObject", key)
        self._comparing(key, if_match)
        self._store.delete(key, if_match=if_match)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[Head]:
        self._missing()
        return self._store.list(prefix, start_after=start_after)
