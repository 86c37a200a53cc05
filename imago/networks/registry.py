"""The networks that a file may name: a checkpoint says "ProgressiveGenerator", never a path to import."""

from typing import Any, TypeVar

from torch import nn

from imago.errors import UserError

_NETWORKS: dict[str, type[nn.Module]] = {}
Network = TypeVar("Network", bound=type[nn.Module])


def register(network: Network) -> Network:
    """Class decorator: makes a network buildable from a file that names it."""
    _NETWORKS[network.__name__] = network
    return network


def build(name: str, config: dict[str, Any]) -> nn.Module:
    """Builds a registered network.

    Args:
        name: The class name that the file gives.
        config: Its constructor's keyword arguments.

    Raises:
        UserError: Unknown name, or arguments that the network does not take.
    """
    if name not in _NETWORKS:
        raise UserError(f"unknown network {name!r}; imago has {', '.join(sorted(_NETWORKS))}")
    try:
        return _NETWORKS[name](**config)
    except TypeError as error:
        raise UserError(f"{name} cannot be built from {config}: {error}") from error
