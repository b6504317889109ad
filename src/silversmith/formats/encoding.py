"""The encoding of text that is not UTF-8, with a confidence: used only if no other encoding explains the text as well.

A wrong guess damages data silently, since nearly all bytes are letters in nearly all old encodings. So an encoding has
to explain every word of the file: as letters of one of its languages, in their case and their place. A text is
Windows-1252 if that explains it, and every other encoding fails or explains the same words. A person decides the rest.
"""

# ruff: noqa: RUF001 -- letters and signs that look like others are the subject

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from silversmith.errors import DataError, Place
from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.table import Table

#: Letters beyond a to z, in lower case, of languages in Latin script.
_LATIN = {
    "Catalan": "àçèéíïòóúü",
    "Croatian": "čćđšž",
    "Czech": "áčďéěíňóřšťúůýž",
    "Danish": "åæøé",
    "Dutch": "áéèëïóöü",
    "Estonian": "äõöüšž",
    "Finnish": "åäö",
    "French": "àâæçèéêëîïôœùûüÿ",
    "German": "äöüß",
    "Hungarian": "áéíóöőúüű",
    "Icelandic": "áæðéíóöþúý",
    "Italian": "àèéìíîòóùú",
    "Latvian": "āčēģīķļņōŗšūž",
    "Lithuanian": "ąčęėįšųūž",
    "Norwegian": "åæøéòóôêà",
    "Polish": "ąćęłńóśźż",
    "Portuguese": "àáâãçéêíóôõúü",
    "Romanian": "ăâîşţșț",
    "Slovak": "áäčďéíĺľňóôŕšťúýž",
    "Spanish": "áéíñóúü",
    "Swedish": "åäöé",
    "Turkish": "âçğıîöşûüi̇",
}

#: Letters of other scripts, as ranges of code points: no word mixes them with a to z.
_SCRIPTS = {
    "Arabic": ("\u0600", "\u06ff"),
    "Cyrillic": ("\u0400", "\u045f"),
    "Greek": ("\u0370", "\u03ff"),
    "Hebrew": ("\u0590", "\u05ff"),
}

_WESTERN = (
    "German", "French", "Spanish", "Portuguese", "Italian", "Danish", "Norwegian", "Swedish", "Finnish", "Dutch",
    "Icelandic", "Catalan",
)  # fmt: skip
_CENTRAL = ("Croatian", "Czech", "German", "Hungarian", "Polish", "Romanian", "Slovak")
_BALTIC = ("Estonian", "Latvian", "Lithuanian")

#: The encodings of files that are not UTF-8, as Python calls them, and the languages that each is used for.
ENCODINGS: dict[str, tuple[str, ...]] = {
    "cp1252": _WESTERN,
    "cp1250": _CENTRAL,
    "iso8859-2": _CENTRAL,
    "cp1254": ("Turkish",),
    "cp1257": _BALTIC,
    "mac_roman": _WESTERN,
    "cp850": _WESTERN,
    "cp437": ("French", "German", "Italian", "Spanish", "Swedish"),
    "cp852": _CENTRAL,
    "cp1251": ("Cyrillic",),
    "koi8-r": ("Cyrillic",),
    "iso8859-5": ("Cyrillic",),
    "cp866": ("Cyrillic",),
    "cp1253": ("Greek",),
    "iso8859-7": ("Greek",),
    "cp1255": ("Hebrew",),
    "cp1256": ("Arabic",),
}

#: Signs in text besides letters: before words, between their parts, after them.
_LEADING = "“„«‘’‚‹¿¡£€¥¢§©±°µ¼½¾†‡•–—…×\u00a0"
_JOINING = "’‘·–—…•×½\u00a0"
_TRAILING = "”“’‘»›…™®©°ªº†‡•£€¥¢¼½¾–—\u00a0"

_VOWELS = "aeiouyàáâãäåæèéêëìíîïòóôõöøùúûüýÿœăąęěőůűāēīūōėįųı"

#: From this confidence on, a guess is used without asking.
SURE = 0.9

#: How many different words with bytes beyond ASCII are read; the rest of the file only has to decode.
MOST_WORDS = 20_000

#: From so many words on, the place of a letter among vowels and consonants speaks for or against an encoding.
_ENOUGH = 3

_PIECE = 1024 * 1024
_LONGEST_WORD = 40
_WORD = re.compile(rb"[A-Za-z\x80-\xff]*[\x80-\xff][A-Za-z\x80-\xff]*")
_UTF8 = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_CONTROLS = frozenset(map(chr, range(0x80, 0xA0)))

#: The language of words whose letters no single language has.
_SEVERAL = "several languages"

#: Encodings whose words may be of several languages at once: the two most frequent in files of many countries.
_MIXED = ("cp1252", "cp1250")

#: Signs before questions and calls; in other encodings their bytes are letters.
_SPANISH = frozenset("¿¡")

_LETTERS = r"[^\W\d_ªºµ¹²³¼½¾]+"

#: The shape of a word: letters between signs, and the units of areas and volumes.
_SHAPE = re.compile(f"[{_LEADING}]*(?:{_LETTERS}(?:[{_JOINING}]+{_LETTERS})*)?(?:[{_TRAILING}]*|(?<=m)[²³])")
_SIGN = re.compile(f"[{_LEADING}{_JOINING}{_TRAILING}²³]+")

#: Words of English with an apostrophe; in other encodings its byte is a letter.
_CONTRACTION = re.compile(
    rb"(?i)(?:it|that|he|she|what|there|let|who)\x92s|(?:don|isn|doesn|didn|won|can|wasn|aren|couldn|wouldn)\x92t|"
    rb"(?:i|we|they|you)\x92(?:m|re|ve|ll|d)"
)

#: Byte order marks, and the encoding of each. One of UTF-8 is passed over by every reader.
_MARKS = (
    (text.TWO_BOMS, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"\x84\x31\x95\x33", "gb18030"),
)

#: The mark of UTF-7 is text, too: it counts where what follows is UTF-7.
_UTF7_MARKS = (b"+/v8", b"+/v9", b"+/v+", b"+/v/")

#: So many bytes show an encoding by its mark.
MARKED = 256

#: Byte order marks of encodings that Python does not know.
_UNKNOWN_MARKS = (
    (b"\xf7\x64\x4c", "UTF-1"),
    (b"\xdd\x73\x66\x73", "UTF-EBCDIC"),
    (b"\x0e\xfe\xff", "SCSU"),
    (b"\xfb\xee\x28", "BOCU-1"),
)

_EVERY_MARK = (*(mark for mark, _ in _MARKS), *_UTF7_MARKS, *(mark for mark, _ in _UNKNOWN_MARKS))


@dataclass(frozen=True)
class Guess:
    """An encoding as Python calls it, empty if none is likely, with a confidence from 0 to 1 and the reason."""

    encoding: str
    confidence: float
    why: str

    @property
    def is_sure(self) -> bool:
        """Whether it may be used without asking."""
        return bool(self.encoding) and self.confidence >= SURE


def with_encoding(content: Content, encoding: str | None, read: Callable[[Content], Table]) -> Table:
    """Read the content as UTF-8, recoded if need be. ``encoding`` None: detected, unless the content is UTF-8.

    Raises:
        DataError: ``NotUtf8`` if no encoding is sure, with the likeliest; ``WrongEncoding``; or ``read`` fails.
    """
    if encoding is not None:
        table = read(text.recode(content, encoding))
        return replace(table, dialect={**table.dialect, "encoding": encoding})

    def read_detected(content: Content) -> Table:
        try:
            table = read(content)
            return replace(table, dialect={**table.dialect, **text.UTF8})
        except DataError as error:
            if error.code not in {"NotUtf8", "NulByte"}:
                raise
            likely = guess(content)
            if not likely.is_sure:
                raise _unsure(error, likely) from None
        return _recoded(content, likely, read)

    return with_mark(content, read_detected, read)


def with_mark(
    content: Content, read: Callable[[Content], Table], read_utf8: Callable[[Content], Table] | None = None
) -> Table:
    """Read the content, recoded where it has another byte order mark than that of UTF-8. Then it is UTF-8, which
    ``read_utf8`` may read without detecting it.

    Raises:
        DataError: ``NotUtf8`` if the mark is of an encoding that is not read; ``WrongEncoding``; or ``read`` fails.
    """
    if marked := encoding_of_mark(content.head(MARKED)):
        return _recoded(content, Guess(marked, 1.0, "its byte order mark says so"), read_utf8 or read)
    return read(content)


def _recoded(content: Content, guess: Guess, read: Callable[[Content], Table]) -> Table:
    table = read(text.recode(content, guess.encoding))
    return replace(table, dialect={**table.dialect, **vars(guess)})


def _unsure(error: DataError, likely: Guess) -> DataError:
    option = f'encoding="{likely.encoding}"' if likely.encoding else "encoding=…"
    return DataError(
        error.code,
        f"{error.message}; {likely.why} (confidence {likely.confidence:.0%}, {SURE:.0%} is needed)",
        hint=f"write it as UTF-8, or name its encoding: Csv({option}); other text readers take encoding= too",
        place=error.place,
    )


def encoding_of_mark(head: bytes) -> str:
    """The encoding of the byte order mark, as Python calls it; empty if there is none, or one of UTF-8.

    https://www.unicode.org/faq/utf_bom.html

    Raises:
        DataError: ``NotUtf8`` if it is the mark of an encoding that is not read.
    """
    if not head.startswith(_EVERY_MARK):
        return ""
    for mark, name in _UNKNOWN_MARKS:
        if head.startswith(mark):
            raise DataError(
                "NotUtf8",
                f"the byte order mark says that the file is {name}, which is not read",
                hint="write it as UTF-8",
                place=Place(line=1, column=1),
            )
    if head.startswith(_UTF7_MARKS) and head.isascii():
        with suppress(UnicodeDecodeError):
            decoded = codecs.getincrementaldecoder("utf-7")().decode(head)
            return "utf-7" if decoded.startswith("\ufeff") and "\0" not in decoded else ""
    return next((name for mark, name in _MARKS if head.startswith(mark)), "")


def guess(content: Content) -> Guess:
    """The encoding of text that is known not to be UTF-8."""
    head = content.head(_PIECE)
    if b"\0" in head:
        return _guess_utf16(content, head)
    words: Counter[bytes] = Counter()
    bytes_seen: set[int] = set()
    utf8 = 0
    for piece in _pieces(content):
        if piece.isascii():
            continue
        bytes_seen.update(piece)
        utf8 += sum(1 for _ in _UTF8.finditer(piece))
        if len(words) < MOST_WORDS:
            words.update(_WORD.findall(piece))
    return weigh(words, bytes(sorted(bytes_seen)), utf8=utf8)


def _pieces(content: Content) -> Iterator[bytes]:
    """Pieces that end where lines do, so that no word is cut; very long lines may be."""
    rest = b""
    with content.open() as file:
        while piece := file.read(_PIECE):
            whole, end, rest = (rest + piece).rpartition(b"\n")
            yield whole + end
            if len(rest) > _PIECE:
                yield rest
                rest = b""
    yield rest


def _guess_utf16(content: Content, head: bytes) -> Guess:
    """Text with NUL bytes is UTF-16 without a mark if mostly every other byte is NUL, and all of it decodes."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = max(1, len(head) // 2)
    name = "utf-16-le" if odd > even else "utf-16-be"
    if min(even, odd) > 0.01 * half or max(even, odd) < 0.5 * half or content.size % 2 or not _decodes(content, name):
        return Guess("", 0.0, "it has NUL bytes and is not UTF-16: it is binary, or a crash left it incomplete")
    return Guess(name, 0.99, "every other byte is NUL, as in UTF-16")


def _decodes(content: Content, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with content.open() as file:
            while piece := file.read(_PIECE):
                if "\0" in decoder.decode(piece):
                    return False
            decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True


def weigh(words: Counter[bytes], bytes_seen: bytes, *, utf8: int = 0) -> Guess:
    """The encoding that explains the words of a file, which has these bytes and ``utf8`` characters of valid UTF-8."""
    if not words:
        return Guess("", 0.0, "it has no word to tell by")
    if 10 * utf8 > sum(words.values()):
        return Guess("", 0.0, "it is UTF-8 in most places, and damaged or something else in others")
    explained = {name: read for name in ENCODINGS if (read := _explained(words, bytes_seen, name)) is not None}
    western = explained.pop("cp1252", None)
    if western is None:
        if not explained:
            return Guess("", 0.0, "no encoding that is known here makes words of all of it")
        choices = ", or ".join(f"{name} ({rival.language})" for name, rival in explained.items())
        return Guess(next(iter(explained)), 0.5, f"it may be {choices}")
    doubt = 0.5 if western.language == _SEVERAL else 0.2
    for name, rival in explained.items():
        if rival.words == western.words:
            continue
        if rival.language != _SEVERAL or western.language in {"", _SEVERAL}:
            why = f"it may be Windows-1252, or {name} ({rival.language}): both make words of all of it"
            return Guess("cp1252", 0.5, why)
        doubt = 0.5  # one language is likelier than several, the more so the more words there are
    is_windows = any(0x80 <= byte <= 0x9F for byte in bytes_seen)  # Latin-1 has nothing there; the rest is the same
    label = "Windows-1252" if is_windows else "Latin-1"
    language = f" ({western.language})" if western.language else ""
    why = f"{label}{language}: no other encoding makes other words of all of it"
    return Guess("cp1252" if is_windows else "latin-1", min(0.99, round(1 - doubt / len(words), 2)), why)


@dataclass(frozen=True)
class _Explained:
    """The words in an encoding, and their language; that is empty if they have no letters beyond ASCII."""

    words: tuple[str, ...]
    language: str


def _explained(words: Iterable[bytes], bytes_seen: bytes, encoding: str) -> _Explained | None:
    """The words in an encoding, if they are words in it."""
    try:
        controls = _CONTROLS & set(bytes_seen.decode(encoding))
        decoded = tuple(word.decode(encoding) for word in words)
    except UnicodeDecodeError:
        return None
    contracted = any(map(_CONTRACTION.fullmatch, words)) and b"\x92".decode(encoding) != "\u2019"
    if controls or contracted or not all(map(_is_word, decoded)):
        return None
    letters = {letter for word in decoded for letter in _SIGN.sub("", word).lower() if letter > "\x7f"}
    if letters and encoding != "cp1252" and all(len(word) == 1 for word in decoded if letters & set(word.lower())):
        return None  # lone letters are no words: a sign in another encoding is likelier
    languages = ENCODINGS[encoding]
    if any(_SPANISH & set(word) for word in decoded):
        languages = tuple(language for language in languages if language == "Spanish")
    for language in languages:
        if _has_letters(language, letters) and _is_plausible(decoded, language):
            return _Explained(decoded, language if letters else "")
    mixed = encoding in _MIXED and all(
        any(_has_letters(language, {letter}) for language in languages) for letter in letters
    )
    return _Explained(decoded, _SEVERAL) if mixed and _is_plausible(decoded, "") else None


def _has_letters(language: str, letters: set[str]) -> bool:
    if language in _SCRIPTS:
        first, last = _SCRIPTS[language]
        return all(first <= letter <= last for letter in letters)
    return letters <= set(_LATIN[language])


def _is_word(word: str) -> bool:
    """Whether a word is possible in any language: letters of one script and in good case, signs only around them."""
    if len(word) > _LONGEST_WORD or not _SHAPE.fullmatch(word):
        return False
    return all(map(_is_cased, filter(None, _SIGN.split(word))))


def _is_cased(part: str) -> bool:
    latin = [letter < "\u0370" for letter in part]
    if any(latin) and not all(latin):
        return False
    caseless = part.lower() == part.upper()
    return caseless or part.islower() or part.isupper() or part[1:].islower() or _is_compound(part)


def _is_compound(part: str) -> bool:
    """McGregor, DeVito: a capital within a word, but one of ASCII, which any encoding has alike."""
    return all(letter.isascii() or letter.islower() for letter in part[1:])


def _is_plausible(words: tuple[str, ...], language: str) -> bool:
    """Whether letters stand where their sound can be: a vowel not mostly between vowels, a consonant beside a vowel.

    That takes several words. Polish ń, German ß and Spanish ñ have rules that even one word can break.
    """
    alone: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for word in map(str.lower, words):
        for at, letter in enumerate(word):
            if letter <= "\x7f" or not letter.isalpha() or letter >= "\u0370":
                continue
            before, after = word[at - 1 : at], word[at + 1 : at + 2]
            if letter == "ß" and (not before or before not in _VOWELS):
                return False
            if letter == "ń" and language == "Polish" and after and after in _VOWELS:
                return False
            if letter == "ñ" and not (after and after in _VOWELS):
                return False
            seen[letter] += 1
            near = sum(1 for beside in (before, after) if beside and beside in _VOWELS)
            alone[letter] += (near == 2) if letter in _VOWELS else (near == 0)
    return not any(number >= _ENOUGH and alone[letter] > 0.5 * number for letter, number in seen.items())
