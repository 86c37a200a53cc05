"""What a composed configuration lacks or has too much of, told in one line with the names that would be right."""

import copy
import dataclasses
import difflib
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from imago.errors import UserError


def check_config(cfg: DictConfig) -> None:
    """Finds what Hydra lets pass: keys added with ``+`` that no schema has, and values that are still missing.

    Raises:
        UserError: Names the keys.
    """
    for key, valid in _unknown_keys(cfg, ""):
        raise UserError(_unknown_key_message(key, valid))
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError(f"{missing[0]} is needed: add {missing[0]}=… to the command")


def without_hydra(cfg: DictConfig) -> DictConfig:
    """A composed configuration without Hydra's own part, as :func:`check_config` takes it."""
    bare = copy.copy(cfg)
    OmegaConf.set_struct(bare, False)
    del bare["hydra"]
    return bare


def _unknown_keys(node: DictConfig, prefix: str) -> list[tuple[str, list[str]]]:
    schema = OmegaConf.get_type(node)
    names = [f.name for f in dataclasses.fields(schema)] if dataclasses.is_dataclass(schema) else None
    found: list[tuple[str, list[str]]] = []
    keys: list[Any] = list(node)  # numbers too: {height: batch size}
    for key in keys:
        if names is not None and key not in names:
            found.append((f"{prefix}{key}", names))
        elif not OmegaConf.is_missing(node, key) and isinstance(node[key], DictConfig):
            found += _unknown_keys(node[key], f"{prefix}{key}.")
    return found


def _unknown_key_message(key: str, valid: list[str]) -> str:
    name = key.rpartition(".")[2]
    valid = [v for v in valid if not v.startswith("_")]
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"unknown key {key!r}; {hint}valid here: {', '.join(valid)}"


def describe_config_error(error: BaseException) -> str:
    """One line for what Hydra or OmegaConf refused, with the valid names where there are any."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    for link in chain:
        schema, key = getattr(link, "object_type", None), getattr(link, "full_key", None)
        if not isinstance(key, str) or not key:
            continue
        names = [field.name for field in dataclasses.fields(schema)] if dataclasses.is_dataclass(schema) else []
        # A key that exists but was given a bad value comes with the same attributes: its own message is the better one.
        if names and key.rpartition(".")[2] not in names:
            return _unknown_key_message(key, names)
        if isinstance(link, OmegaConfBaseException) and isinstance(link.msg, str):
            return f"{key}: {link.msg.splitlines()[0]}"
    text = str(error).partition("Config search path")[0]
    lines = [line.strip() for line in text.splitlines()]
    return " ".join(line for line in lines if line and not line.endswith("_schema"))
