"""`--help`: the option groups with what each option says of itself, and every key with its default and its comment."""

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import conf

_CONF = Path(inspect.getfile(conf)).parent


def describe(program: str, purpose: str, schema: type[Any], groups: bool) -> str:
    """The help text of a command.

    Args:
        program: ``train.py``.
        purpose: What it does.
        schema: The dataclass of its configuration.
        groups: Whether the folders of conf/ are its option groups.
    """
    lines = [f"python {program} [group=option …] [key=value …]", "", purpose, ""]
    if groups:
        lines += ["Groups (group=option); each option's keys follow its name, as in growth.batch_size=32:", ""]
        for folder in sorted(path for path in _CONF.iterdir() if path.is_dir() and not path.name.startswith("_")):
            lines += [f"  {folder.name}", *(f"    {line}" for line in _options(folder)), ""]
    lines += ["Keys:", "", *(f"  {line}" for line in _keys(schema)), ""]
    lines += [
        "The composed configuration: --cfg job --resolve.  Sweep over values: -m seed=0,1.  Shell completion:",
        f'  eval "$(python {program} -sc install=bash)"',
    ]
    return "\n".join(lines)


def _options(folder: Path) -> Iterator[str]:
    for file in sorted(folder.glob("*.yaml")):
        lines = file.read_text().splitlines()
        comments = [line[2:] for line in lines if line.startswith("# ") and "@package" not in line]
        yield f"{file.stem:18s} {comments[0] if comments else ''}".rstrip()


def _keys(schema: type[Any]) -> Iterator[str]:
    """``key=default`` with the comments that stand before or behind the field in the dataclass's source."""
    comments: list[str] = []
    names = {field.name for field in dataclasses.fields(schema)}
    for line in inspect.getsource(schema).splitlines():
        text = line.strip()
        if text.startswith("# "):
            comments.append(text[2:])
            continue
        name = text.partition(":")[0]
        if name in names and ":" in text:
            rest, _, behind = text.partition("  # ")
            default = rest.partition(" = ")[2].replace("MISSING", "(needed)").replace("None", "null")
            if "field(" in default or (default.endswith("(needed)") and schema.__name__ == "TrainConfig"):
                default = "…"
            yield f"{name}={default}"
            yield from (f"    {comment}" for comment in [*comments, behind] if comment)
        comments = []
