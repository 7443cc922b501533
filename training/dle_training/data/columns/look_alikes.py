"""Categories that differ in upper case or in spaces only: a note says that they are different ones."""

from collections.abc import Iterable

_SHOWN = 3


def note(name: str, texts: Iterable[str]) -> str | None:
    """Return a note on the categories of the column `name` that differ in upper case or in spaces only."""
    spellings: dict[str, set[str]] = {}
    for text in set(texts):
        spellings.setdefault("".join(text.split()).casefold(), set()).add(text)
    groups = sorted(sorted(group) for group in spellings.values() if len(group) > 1)
    if not groups:
        return None
    shown = "; ".join(" and ".join(map(repr, group)) for group in groups[:_SHOWN])
    more = f"; and {len(groups) - _SHOWN:,} more" if len(groups) > _SHOWN else ""
    return f"{name}: {shown}{more} are different categories; where they mean the same, spell them alike in the file"
