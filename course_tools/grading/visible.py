"""What a stranger's text hides: characters that can't be seen, or that turn the order of others, are spelt out."""

import re
import unicodedata

from markupsafe import Markup

HIDDEN = ("Cf", "Cc", "Zl", "Zp")  # Unicode's categories: bidi controls, zero widths, control characters, line ends
BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"  # fillers: letters and signs that draw nothing
JOINERS = "\u200c\u200d"  # belong into words of many scripts and into emoji, and there into no ASCII


def spelt(match: re.Match) -> str:
    """Return a character as it is, or as its number if nobody would see it."""
    char, text, at = match[0], match.string, match.start()
    if char in JOINERS and all(side and not side.isascii() for side in (text[at - 1 : at], text[at + 1 : at + 2])):
        return char
    if char == "\r" and text[at + 1 : at + 2] == "\n":
        return char
    hidden = unicodedata.category(char) in HIDDEN or char in BLANK
    return f"\u27e8U+{ord(char):04X}\u27e9" if hidden else char


def visible(text: str) -> str:
    """Return text, or HTML of jinja2, with its invisible characters spelt out as in ⟨U+202E⟩; lines and tabs stay."""
    shown = re.sub(r"[^\x20-\x7e\n\t]", spelt, str(text))
    return Markup(shown) if isinstance(text, Markup) else shown
