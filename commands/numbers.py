"""Lists of numbers as people write them."""

import re
from typing import Any

from imago.errors import UserError

_MOST = 1_000_000


def parse_numbers(name: str, given: Any) -> list[int]:
    """The numbers that an option lists, in its order, each once.

    Args:
        name: The option, for messages.
        given: ``5``, ``"0-9"``, ``"0-3,7"``, or a list of such.

    Raises:
        UserError: Anything else, nothing, a negative number, a range that runs backwards, or more than a million.
    """
    numbers: dict[int, None] = {}
    words = [given] if isinstance(given, str | int | float) else list(given or [])
    for word in (part.strip() for text in words for part in str(text).split(",")):
        found = re.fullmatch(r"(\d+)(?:\s*-\s*(\d+))?", word, re.ASCII)
        if found is None or isinstance(given, bool):
            raise UserError(f"{name}={_text(given)}: {word or 'nothing'} is no number; write 5, 0-9 or [0,3,7-9]")
        first = int(found[1])
        last = first if found[2] is None else int(found[2])
        if last < first:
            raise UserError(f"{name}={_text(given)}: {word} runs backwards; write {last}-{first}")
        if last - first + len(numbers) >= _MOST:
            raise UserError(f"{name}={_text(given)}: more than {_MOST} numbers")
        numbers.update(dict.fromkeys(range(first, last + 1)))
    if not numbers:
        raise UserError(f"{name}={_text(given)}: give at least one number, as 5, 0-9 or [0,3,7-9]")
    return list(numbers)


def _text(given: Any) -> str:
    return str(given) if isinstance(given, str | int | float) else f"[{','.join(map(str, given or []))}]"
