"""Notes on class names that a person would take for each other."""

import unicodedata

# Letters of other scripts that look like Latin letters.
GREEK_AND_CYRILLIC = "АВЕЅЈКМНОРСТУХІаеорсухѕіјһԁԛԝгѵ" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαινορυχϲϳ"
LATIN_OF_THEM = "ABESJKMHOPCTYXIaeopcyxsijhdqwrv" + "ABEZHIKMNOPTYXaivopuxcj"
LOOKS = str.maketrans(GREEK_AND_CYRILLIC, LATIN_OF_THEM)
# Characters without ink that no name needs.
INVISIBLE = frozenset(
    "\u00ad\u200b\u2060\ufeff\u180e\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


def find_alike(names: list[str]) -> list[str]:
    """Note each class whose name looks like another's, or has invisible characters."""
    first: dict[str, str] = {}
    notes = []
    for name in names:
        other = first.setdefault(_look(name), name)
        if other != name:
            notes.append(_say(other, name))
        elif INVISIBLE & set(name):
            notes.append(
                f"The class “{name}” has an invisible character in its name: "
                f"{_named(INVISIBLE & set(name))}."
            )
    return notes


def _look(name: str) -> str:
    """Reduce a name to its look, regardless of case."""
    seen = unicodedata.normalize("NFKC", name).translate(LOOKS)
    seen = "".join(char for char in seen if unicodedata.category(char) != "Cf")
    return " ".join(seen.casefold().split())


def _say(other: str, name: str) -> str:
    if other.casefold() == name.casefold():
        return (
            f"The classes “{other}” and “{name}” differ in upper and lower case only; they are "
            f"two classes."
        )
    odd = {char for char in set(other) ^ set(name) if not char.isascii()}
    why = f" by {_named(odd)}" if odd else " in how they are written"
    return f"The classes “{other}” and “{name}” look alike, but differ{why}; they are two classes."


def _named(chars: set[str] | frozenset[str]) -> str:
    named = [f"U+{ord(char):04X} {unicodedata.name(char, '')}".strip() for char in sorted(chars)]
    return ", ".join(named[:3]) + (" and others" if len(named) > 3 else "")
