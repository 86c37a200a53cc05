"""Readers from the names and options that a configuration gives."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from imago.data.sources.source import Source
from imago.data.sources.subset import keep_listed
from imago.errors import UserError, first_line


def build_source(reader: str, options: Mapping[str, Any], channels: int = 3, keep: str | None = None) -> Source:
    """A reader with its options, perhaps only of what a list keeps.

    Args:
        reader: Its class, or a function that makes it: "package.module.Class".
        options: Its arguments.
        channels: Channels of the images, for readers that decode files.
        keep: A list of what to keep; see :func:`imago.data.sources.subset.keep_listed`.

    Raises:
        UserError: The data are not there, an option is wrong, or there is no such reader.
    """
    make = find_reader(reader)
    parameters = inspect.signature(make).parameters
    given = dict(options)
    if "channels" in parameters:
        given["channels"] = channels
    if "root" not in parameters:  # drawn, not read
        given.pop("root", None)
    source = make(**given)
    return source if keep is None else keep_listed(source, keep)


def find_reader(reader: str) -> Callable[..., Source]:
    """The class or function that "package.module.Class" names.

    Raises:
        UserError: There is none.
    """
    module, _, name = reader.rpartition(".")
    try:
        make: Callable[..., Source] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"reader={reader}: cannot be imported ({first_line(error)})") from error
    return make
