"""The file of an S3 key in a bucket's folder. Pure: texts in, texts out. docs/decisions/0005-keys-as-file-names.md

A key that can be a path is that path, so that people find their files. Any other key, and one whose path something
else already has, is a file in the reserved folder, under a name that spells the key out in letters every file system
takes. That spelling keeps the order of keys, so that a listing can walk the reserved folder as it walks the others.
"""

from __future__ import annotations

import functools
import re

from silversmith.errors import SilversmithError
from silversmith.lineage import LONGEST_KEY

#: The folder inside a bucket's folder for keys that cannot be paths. Not a key itself: such keys are escaped too.
RESERVED = ".silversmith-keys"

#: How many bytes Linux and macOS allow in one name.
LONGEST_NAME = 255

#: Escaped keys are cut into folders of this many characters; only a file's name carries the ending.
CHUNK = 200
_ENDING = ".key"


class InvalidKey(SilversmithError, ValueError):
    """A text that is no S3 key, or a file whose name cannot be one."""


def check(key: str) -> None:
    """Raise :class:`InvalidKey` unless ``key`` is one: 1 to 1,024 bytes of UTF-8.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidKey(f"{printable(key)}: the name is not UTF-8 text, and an S3 key must be. Rename it.") from None
    if size == 0:
        raise InvalidKey("an S3 key must have at least one character")
    if size > LONGEST_KEY:
        text = printable(key[:100])
        raise InvalidKey(f"{text}…: the key has {size:,} bytes, and S3 takes {LONGEST_KEY:,} at most. Shorten it.")


def is_plain(key: str) -> bool:
    """Whether ``key`` can be a path below the bucket's folder just as it is."""
    first, *rest = key.split("/")
    # Compared without case, because on macOS another case is the same folder.
    return _is_name(first) and first.casefold() != RESERVED and all(map(_is_name, rest))


def _is_name(name: str) -> bool:
    if name in {"", ".", ".."} or "\0" in name:
        return False
    return len(name) * 4 <= LONGEST_NAME or len(name.encode()) <= LONGEST_NAME


@functools.lru_cache(maxsize=4096)
def is_path(key: str) -> bool:
    """Whether the key's own path is the first place where its object may be.

    Raises:
        InvalidKey: see :func:`check`.
    """
    check(key)
    return is_plain(key)


@functools.lru_cache(maxsize=4096)
def places(key: str) -> tuple[str, ...]:
    """The paths where the object of a key may be, the one that wins first. Relative to the bucket's folder.

    Raises:
        InvalidKey: see :func:`check`.
    """
    return (key, escaped(key)) if is_path(key) else (escaped(key),)


def key_of(path: str) -> str:
    """The key of the file at ``path``, relative to the bucket's folder, as ``os.fsdecode`` gives it.

    Raises:
        InvalidKey: no key has its object there.
    """
    if path.startswith(RESERVED + "/"):
        key = spelled(path.removeprefix(RESERVED + "/").removesuffix(_ENDING).replace("/", ""))
        if key is None or escaped(key) != path:
            raise InvalidKey(f"{printable(path)}: the folder {RESERVED} is kept for Silversmith. Put files elsewhere.")
        return key
    check(path)
    if not is_plain(path):
        raise InvalidKey(f"{printable(path)}: the name {RESERVED} is kept for Silversmith. Rename it.")
    return path


def printable(text: str) -> str:
    """A file's name for a person to read, whatever bytes it has."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # no file's name, but a text from elsewhere
        return text.encode("utf-8", "backslashreplace").decode()


def escaped(key: str) -> str:
    """The path of a key in the reserved folder. Two keys never share one, nor is one a folder of another."""
    text = spell(key)
    chunks = [text[start : start + CHUNK] for start in range(0, len(text), CHUNK)]
    return "/".join([RESERVED, *chunks]) + _ENDING


def spell(key: str) -> str:
    """A key in small letters, digits and ``-=~``, such that two spellings compare as the keys' UTF-8 bytes do.

    Capital letters are spelled out too: some file systems do not tell them from small ones.
    """
    return key.encode("utf-8", "surrogatepass").decode("latin-1").translate(_SPELLINGS)


def spelled(text: str) -> str | None:
    """The key that :func:`spell` made ``text`` of; None if it made it of none."""
    raw = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)
    try:
        key = raw.encode("latin-1").decode()
    except UnicodeError:
        return None
    return key if spell(key) == text else None


def spelled_entry(name: str, *, is_folder: bool) -> str | None:
    """The part of a spelling that an entry of the reserved folder stands for; None if it is a stranger there."""
    if is_folder:
        return name if len(name) == CHUNK else None
    return name.removesuffix(_ENDING) if name.endswith(_ENDING) else None


def spelled_folder(prefix: str) -> str:
    """The deepest part of a spelled prefix that is whole folders: where a listing of the prefix begins."""
    return prefix[: max(len(prefix) - 1, 0) // CHUNK * CHUNK]


def _spelling(byte: int) -> str:
    """Each mark sorts where the bytes that it stands for do: ``-`` first, ``=`` after the digits, ``~`` last."""
    char = chr(byte)
    if "0" <= char <= "9" or "a" <= char <= "z":
        return char
    mark = "-" if char < "0" else "=" if char < "a" else "~"
    return f"{mark}{byte:02x}"


_SPELLINGS = {byte: _spelling(byte) for byte in range(256)}
_ESCAPE = re.compile("[-=~]([0-9a-f]{2})")
