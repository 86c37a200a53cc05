"""`--help`: the option groups with what each option says of itself, and every key with its default and its comment."""

import dataclasses
import inspect
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import conf

_CONF = Path(inspect.getfile(conf)).parent


def describe(program: str, purpose: str, schema: type[Any], groups: Mapping[str, Mapping[str, type[Any]]]) -> str:
    """The help text of a command.

    Args:
        program: ``train.py``.
        purpose: What it does.
        schema: The dataclass of its configuration.
        groups: The folders of conf/ that are its option groups, each with the schemas of those options whose keys are
            to be listed.
    """
    lines = [f"python {program} [group=option …] [key=value …]", "", purpose, ""]
    if groups:
        examples = {"growth": "growth.batch_size=32", "protocol": "protocol.swd_images=4096", "source": "source.root=…"}
        example = next(text for group, text in examples.items() if group in groups)
        lines += [f"Groups (group=option); each option's keys follow its name, as in {example}:", ""]
        for group, schemas in groups.items():
            lines += [f"  {group}", *(f"    {line}" for line in _options(_CONF / group, schemas)), ""]
    lines += ["Keys:", "", *(f"  {line}" for line in _lines(schema)), ""]
    for name, nested in _nested(schema, groups).items():
        lines += [f"Keys of {name}, as in {name}.{dataclasses.fields(nested)[0].name}=…:", ""]
        lines += [*(f"  {line}" for line in _lines(nested)), ""]
    lines += [
        "The composed configuration: --cfg job --resolve.  Sweep over values: -m seed=0,1.  Shell completion:",
        f'  eval "$(python {program} -sc install=bash)"',
    ]
    return "\n".join(lines)


def _options(folder: Path, schemas: Mapping[str, type[Any]]) -> Iterator[str]:
    for file in sorted(folder.glob("*.yaml")):
        lines = file.read_text().splitlines()
        comments = [line[2:] for line in lines if line.startswith("# ") and "@package" not in line]
        yield f"{file.stem:18s} {comments[0] if comments else ''}".rstrip()
        for key, comments in _keys(schemas[file.stem]) if file.stem in schemas else ():
            yield f"    {folder.name}.{key:34s} {' '.join(comments)}".rstrip()


def _lines(schema: type[Any]) -> Iterator[str]:
    for key, comments in _keys(schema):
        yield key
        yield from (f"    {comment}" for comment in comments if comment)


def _nested(schema: type[Any], groups: Mapping[str, Any]) -> dict[str, type[Any]]:
    """The dataclasses among the fields, by name, that are no groups."""
    types = typing.get_type_hints(schema)
    fields = [field.name for field in dataclasses.fields(schema) if field.name not in groups]
    return {name: types[name] for name in fields if dataclasses.is_dataclass(types[name])}


def _keys(schema: type[Any]) -> Iterator[tuple[str, list[str]]]:
    """``key=default`` and the comments that stand before or behind the field in the source of the dataclass."""
    found: dict[str, tuple[str, list[str]]] = {}
    for cls in reversed([cls for cls in schema.__mro__ if dataclasses.is_dataclass(cls)]):
        names = {field.name for field in dataclasses.fields(cls)}
        comments: list[str] = []
        for line in inspect.getsource(cls).splitlines():
            text = line.strip()
            if text.startswith("# "):
                comments.append(text[2:])
                continue
            name = text.partition(":")[0]
            if name in names and ":" in text:
                rest, _, behind = text.partition("  # ")
                default = rest.partition(" = ")[2].replace("MISSING", "(needed)").replace("None", "null")
                default = default.replace('"', "")
                if "field(" in default or (default.endswith("(needed)") and schema.__name__ == "TrainConfig"):
                    default = "…"
                found[name] = f"{name}={default}", [*comments, behind]
            comments = []
    yield from (found[name] for name in found if name != "reader")
