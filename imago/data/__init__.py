"""Data: readers of what lies on disks, the packed data set that training reads, and the order it is read in."""

from imago.data.packed import PackedDataset
from imago.data.packing import pack

__all__ = ["PackedDataset", "pack"]
