"""What letters languages are written with, and which languages each old encoding was made for."""

# ruff: noqa: RUF001 -- letters and signs that look like others are what this is about

from __future__ import annotations

#: Letters beyond a to z, in lower case, of languages in Latin script.
LATIN = {
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

#: Letters of other scripts, by the range of their code points: no word mixes them with a to z.
SCRIPTS = {
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

#: The encodings that files are in which are not UTF-8, as Python calls them, and the languages each is used for.
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

#: What is no letter and yet stands in text: before words, between their parts, after them.
LEADING = "“„«‘’‚‹¿¡£€¥¢§©±°µ¼½¾†‡•–—…×\u00a0"
JOINING = "’‘·–—…•×½\u00a0"
TRAILING = "”“’‘»›…™®©°ªº†‡•£€¥¢¼½¾–—\u00a0"

VOWELS = "aeiouyàáâãäåæèéêëìíîïòóôõöøùúûüýÿœăąęěőůűāēīūōėįųı"
