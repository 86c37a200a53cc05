"""Commands that are printed to be copied into a shell."""

import re
import shlex
from collections.abc import Mapping

from commands.app import in_quotes, quoted_path

_PLAIN_WORD = re.compile(r"[\w./:@%+-]+", re.ASCII)


def command_line(program: str, options: Mapping[str, object], *first: str) -> str:
    """A command as a shell and Hydra read it, whatever its paths are called.

    Args:
        program: ``train.py``.
        options: Key → value: words, numbers and lists of numbers.
        first: What stands before them: ``data=packed``.

    Returns:
        ``python train.py data=packed 'data.path=/a b' resolution=32``.
    """
    return shlex.join(["python", program, *first, *(_hydra(key, value) for key, value in options.items())])


def option_text(key: str, value: object) -> str:
    """One option of such a command."""
    return shlex.quote(_hydra(key, value))


def _hydra(key: str, value: object) -> str:
    """``key=value`` as Hydra's grammar has it. The commands quote most paths by themselves, but for commas."""
    if isinstance(value, list | tuple):
        return f"{key}=[{','.join(map(str, value))}]"
    text = str(value)
    by_itself = quoted_path(f"{key}={text}") != f"{key}={text}"
    if by_itself or _PLAIN_WORD.fullmatch(text) or (" " in text and _PLAIN_WORD.fullmatch(text.replace(" ", ""))):
        return f"{key}={text}"
    return f"{key}={in_quotes(text)}"
