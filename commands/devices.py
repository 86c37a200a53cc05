"""Which device a command runs on."""

import torch

from imago.errors import UserError


def find_device(name: str) -> torch.device:
    """The device that ``device=`` names; auto: a GPU where there is one.

    Raises:
        UserError: It is not there, or no device of that name is known.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device is None or device.type not in available:
        raise UserError(f"device={name} is unknown; choose auto, cpu, cuda, cuda:1 … or mps")
    if (device.index or 0) >= available[device.type]:
        raise UserError(f"device={name} is not available on this machine; choose auto or cpu")
    return device
