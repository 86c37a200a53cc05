"""Parts of a source: the entries that a list keeps, or a range of them."""

import hashlib
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from imago.data.sources.source import Item, SkippedImageError, Source, read_all
from imago.data.tables import read_table, read_text
from imago.errors import UserError

_SHOWN = 80  # characters of a name in a message


class Subset:
    """Some entries of a source, in its order; where an entry holds several items, perhaps only some of them.

    Args:
        source: The whole.
        entries: Indices of its entries, ascending.
        items: Names of the items to keep, or of entries of which all items are kept; None: all.
    """

    def __init__(self, source: Source, entries: Sequence[int], items: Collection[str] | None = None) -> None:
        self.source = source
        self.name = source.name
        self.kind: str = getattr(source, "kind", type(source).__name__)
        self.entries = entries
        self.items = None if items is None else frozenset(items)

    def __len__(self) -> int:
        return len(self.entries)

    def item_name(self, index: int) -> str:
        """The name of the entry in the whole source."""
        return self.source.item_name(self.entries[index])

    def fingerprint(self) -> str:
        """Of the whole source and the choice."""
        digest = hashlib.blake2b(self.source.fingerprint().encode(), digest_size=16)
        if isinstance(self.entries, range):
            digest.update(repr(self.entries).encode())
        else:
            for entry in self.entries:
                digest.update(f"{entry},".encode())
        for name in sorted(self.items or ()):
            digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
        return digest.hexdigest()

    def read(self, index: int) -> Item:
        """The first kept item of an entry."""
        return self.read_all(index)[0]

    def read_all(self, index: int) -> list[Item]:
        """The kept items of an entry."""
        entry = self.entries[index]
        found = read_all(self.source, entry)
        if self.items is None or self.source.item_name(entry) in self.items:
            return found
        kept = [item for item in found if item.name in self.items]
        if not kept:
            raise SkippedImageError("not in the list of what to keep", self.source.item_name(entry))
        return kept


def part_of(source: Source, shard: int, shards: int) -> Subset:
    """One of `shards` runs of consecutive entries, of nearly equal lengths.

    Raises:
        UserError: There are fewer entries than shards.
    """
    if len(source) < shards > 1:
        raise UserError(f"shards={shards}: {source.name} has only {len(source)} entries")
    return Subset(source, range(len(source) * shard // shards, len(source) * (shard + 1) // shards))


def keep_listed(source: Source, path: str | Path) -> Subset:
    """The entries of a source that a list names.

    Args:
        source: The whole.
        path: A CSV with a column "name", as ranking writes it (rows whose column "keep", if there is one, is empty, 0
            or no are left out), or a text file with one name on each line.

    Raises:
        UserError: The list cannot be read, is empty, or names entries that the source does not have.
    """
    return keep_names(source, read_keep_list(Path(path).expanduser()), str(path))


def keep_names(source: Source, names: Collection[str], where: str) -> Subset:
    """The entries of a source with these names; see :func:`keep_listed`.

    Args:
        source: The whole.
        names: Names of entries, or of items of entries: "photo.jpg#1" is the second face of photo.jpg.
        where: What holds the names, for messages.

    Raises:
        UserError: No names, or the source has no such entries.
    """
    if not names:
        raise UserError(f"{where}: names nothing to keep")
    wanted = set(names)
    entries, missing = [], set(wanted)
    of_items = {entry_name(name): name for name in wanted if entry_name(name) != name}
    for index in range(len(source)):
        name = source.item_name(index)
        if name in wanted or name in of_items:
            entries.append(index)
            missing.discard(name)
            if name in of_items:
                missing -= {other for other in missing if entry_name(other) == name}
    if missing:
        examples = ", ".join(_shown(name) for name in sorted(missing)[:3])
        raise UserError(f"{where}: {len(missing)} of {len(wanted)} names are not in {source.name}: {examples}, …")
    return Subset(source, entries, wanted if of_items else None)


def _shown(name: str) -> str:
    """A name in a message: without what a terminal would act on, and not too long."""
    text = name if name.isprintable() else ascii(name)[1:-1]
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def entry_name(item_name: str) -> str:
    """The entry that an item belongs to: "photo.jpg" for "photo.jpg#1"."""
    return re.sub(r"#[0-9]+\Z", "", item_name)


def read_keep_list(path: Path) -> list[str]:
    """The names of a list; see :func:`keep_listed`."""
    if path.suffix.lower() != ".csv":
        return [line.removesuffix("\r") for line in read_text(path).split("\n") if line.strip()]
    header, *rows = read_table(path) or [[]]
    if "name" not in header:
        raise UserError(f'{path}: a CSV that lists what to keep needs a column "name"; one name a line needs .txt')
    named = [dict(zip(header, row, strict=False)) for row in rows]
    return [row["name"] for row in named if row.get("keep", "1").strip().lower() not in ("", "0", "no", "false")]
