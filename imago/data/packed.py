"""A packed data set: every resolution of every image, ready to be read batch by batch.

The folder holds ``dataset.json`` (written last), one ``pixels_<height>.npy`` of uint8 ``(N, H, W, C)`` per small
resolution, one ``pixels_<height>.zip`` of PNGs per large one, ``names.jsonl`` (one JSON string per image: its name in
the source), and ``labels.npy`` and ``landmarks.npy`` where labels and landmarks exist. :func:`imago.data.packing.pack`
writes it.
"""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imago.data.archives import SharedZip
from imago.data.pack_format import LEFT_OUT, NAMES, file_checksums, member_name, pack_checksum, read_description
from imago.data.tables import read_table
from imago.errors import UserError


@dataclass(frozen=True)
class LabelColumn:
    """One column of the labels: its name and what its numbers 0, 1, … stand for."""

    name: str
    values: tuple[str, ...]


class PackedDataset:
    """Opens a packed data set and checks that it is whole; files are read when they are needed.

    It may be pickled and forked: each process opens the files itself.

    Args:
        path: The folder; ``~`` is expanded.

    Attributes:
        path: The folder, absolute.
        name: Name of the source ("faces128").
        source: Kind of source it was packed from ("FolderSource").
        count: Images, N.
        resolutions: Image heights, ascending.
        base: ``(H, W)`` of the smallest level; every level doubles both.
        channels: 1, 3 or 4.
        label_columns: What the columns of `labels` mean; empty without labels.
        labels: int16 ``(N, K)``, −1 where unknown, or None.
        landmarks: float32 ``(N, 68, 2)`` x, y in pixels of the largest level, pixel centres at integers, NaN where no
            face was found; memory-mapped. Or None.
        unreadable: Entries of the source that were left out, listed in ``unreadable.csv``.
        skipped: How many of these are whole, but not what was asked for (no face, …).
        upsampled: Images that were smaller than the largest level.
        preparation: The parameters of packing.
        fingerprint: The source's.
        checksum: Identifies the whole content of the pack.

    Raises:
        UserError: Not a packed data set, one of another format version, or one with files missing or misshapen.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()
        description = read_description(self.path)
        try:
            self.name: str = description["name"]
            self.source: str = description["source"]
            self.count: int = description["count"]
            self.resolutions: list[int] = description["resolutions"]
            self.base: tuple[int, int] = (description["base"][0], description["base"][1])
            self.channels: int = description["channels"]
            self.label_columns = [LabelColumn(c["name"], tuple(c["values"])) for c in description["label_columns"]]
            self.unreadable: int = description["unreadable"]
            self.skipped: int = description.get("skipped", 0)
            self.upsampled: int = description["upsampled"]
            self.preparation: dict[str, Any] = description["preparation"]
            self.fingerprint: str = description["fingerprint"]
            self.checksum: str = description["checksum"]
            self._checksums: dict[str, str] = description["checksums"]
        except (KeyError, TypeError, IndexError) as error:
            raise UserError(f"{self.path}: damaged dataset.json (no proper {error}); pack the data again") from error
        for name in self._checksums:
            if not (self.path / name).is_file():
                raise UserError(f"{self.path}: {name} is missing; copy it again or pack the data again")
        self._arrays: dict[int, NDArray[np.uint8]] = {}
        self._zips: dict[int, SharedZip] = {}
        self._names: list[str] | None = None
        self._open(check_zips=True)

    def _open(self, check_zips: bool) -> None:
        for resolution in self.resolutions:
            shape = (self.count, *self.extent(resolution), self.channels)
            name = f"pixels_{resolution:04d}"
            if f"{name}.npy" in self._checksums:
                self._arrays[resolution] = self._map(f"{name}.npy", shape, np.uint8)
            elif f"{name}.zip" in self._checksums:
                self._zips[resolution] = SharedZip(self.path / f"{name}.zip")
                if check_zips:
                    self._check_zip(f"{name}.zip", self._zips[resolution])
            else:
                raise UserError(f"{self.path}: damaged dataset.json (no file for {resolution}); pack the data again")
        self.labels: NDArray[np.int16] | None = None
        if "labels.npy" in self._checksums:
            labels = self._map("labels.npy", (self.count, len(self.label_columns)), np.int16)
            self.labels = np.array(labels)
        self.landmarks: NDArray[np.float32] | None = None
        if "landmarks.npy" in self._checksums:
            self.landmarks = self._map("landmarks.npy", (self.count, 68, 2), np.float32)

    def _map(self, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> Any:
        try:
            array = np.load(self.path / name, mmap_mode="r")
        except (ValueError, OSError, EOFError) as error:
            raise UserError(f"{self.path / name}: damaged ({error}); copy it again or pack the data again") from error
        if array.shape != shape or array.dtype != dtype:
            found = f"{array.dtype} {array.shape}"
            raise UserError(f"{self.path / name}: holds {found}, dataset.json says {np.dtype(dtype)} {shape}")
        return array

    def _check_zip(self, name: str, shared: SharedZip) -> None:
        try:
            members = shared.archive.namelist()
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(f"{self.path / name}: damaged ({error}); copy it again or pack the data again") from error
        if len(members) != self.count or (members and members[-1] != member_name(self.count - 1)):
            raise UserError(f"{self.path / name}: holds {len(members)} images, dataset.json says {self.count}")

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return f"PackedDataset({str(self.path)!r}: {self.count} images, {self.resolutions})"

    def __getstate__(self) -> dict[str, Any]:
        # A pickled memory map would carry the whole data set.
        lazy = ("_arrays", "_zips", "_names", "labels", "landmarks")
        return {key: value for key, value in self.__dict__.items() if key not in lazy}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _arrays={}, _zips={}, _names=None)
        self._open(check_zips=False)  # was done where it was pickled, and takes a second for a million members

    def extent(self, resolution: int) -> tuple[int, int]:
        """``(H, W)`` of the images at `resolution`.

        Raises:
            UserError: The pack does not hold this resolution.
        """
        if resolution not in self.resolutions:
            held = ", ".join(map(str, self.resolutions))
            raise UserError(f"{self.path}: holds no resolution {resolution}; it holds {held}")
        return resolution, resolution // self.base[0] * self.base[1]

    def is_compressed(self, resolution: int) -> bool:
        """Whether the images at `resolution` are kept as PNGs, which have to be decoded, rather than as an array."""
        return resolution in self._zips

    def images(
        self,
        indices: NDArray[np.int64],
        resolution: int,
        mirrored: NDArray[np.bool_] | None = None,
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """The images at `indices`, in that order.

        Args:
            indices: int64 ``(n,)`` in [0, N).
            resolution: One of `resolutions`.
            mirrored: ``(n,)``, which of them to mirror left to right; None: none.
            out: uint8 ``(n, H, W, C)`` to write to; None: new memory.

        Returns:
            uint8 ``(n, C, H, W)``, the caller's own. In memory the channels come last, as in the files and as the
            networks like them; PyTorch calls such a tensor contiguous in ``torch.channels_last``.

        Raises:
            UserError: The pack does not hold this resolution, or a file has been damaged since it was written.
            IndexError: An index is outside [0, N).
        """
        height, width = self.extent(resolution)
        indices = np.asarray(indices, dtype=np.int64)
        if len(indices) and not (indices.min() >= 0 and indices.max() < self.count):
            raise IndexError(f"indices from {indices.min()} to {indices.max()} into {self.count} images")
        if out is None:
            out = np.empty((len(indices), height, width, self.channels), dtype=np.uint8)
        if mirrored is None:
            mirrored = np.zeros(len(indices), dtype=bool)
        if resolution in self._arrays:
            # The mode only spares a buffered copy; the indices were checked.
            np.take(self._arrays[resolution], indices, axis=0, out=out, mode="clip")
            if mirrored.any():
                _mirror(out, mirrored)
        else:
            for row, index, flipped in zip(out, indices.tolist(), mirrored.tolist(), strict=True):
                row[...] = self._decode(resolution, index, flipped)
        return out.transpose(0, 3, 1, 2)

    def item_name(self, index: int) -> str:
        """The name of image `index` in the source it was packed from; its number where the pack keeps no names."""
        return self.names[index]

    @property
    def names(self) -> list[str]:
        """All names, see :meth:`item_name`."""
        if self._names is None:
            if NAMES in self._checksums:
                self._names = self._read_names()
            else:  # packed before names were kept
                self._names = [f"{index:08d}" for index in range(self.count)]
        return self._names

    def _read_names(self) -> list[str]:
        try:
            names = [json.loads(line) for line in (self.path / NAMES).read_bytes().splitlines()]
        except ValueError as error:
            raise UserError(f"{self.path / NAMES}: damaged ({error}); copy it again or pack the data again") from error
        if len(names) != self.count:
            raise UserError(f"{self.path / NAMES}: holds {len(names)} names, dataset.json says {self.count}")
        return names

    def encoded(self, index: int, resolution: int) -> bytes:
        """The PNG file of image `index` at a resolution that is kept as PNGs.

        Raises:
            UserError: The file is damaged.
            KeyError: This resolution is kept as an array.
        """
        archive, name = self._zips[resolution], member_name(index)
        try:
            return archive.read(name)
        except (KeyError, zipfile.BadZipFile, OSError) as error:
            raise UserError(f"{archive.path}: {name} is damaged ({error}); pack the data again") from error

    def levels(self, start: int, stop: int) -> dict[int, NDArray[np.uint8] | list[bytes]]:
        """The images start … stop − 1 as the files hold them.

        Returns:
            Resolution → uint8 ``(n, H, W, C)``, or n PNG files.
        """
        return {
            resolution: self._arrays[resolution][start:stop]
            if resolution in self._arrays
            else [self.encoded(index, resolution) for index in range(start, stop)]
            for resolution in self.resolutions
        }

    def label_texts(self, index: int) -> dict[str, str] | None:
        """Column → value of one image, "" where unknown; None without labels."""
        if self.labels is None:
            return None
        codes = self.labels[index].tolist()
        return {c.name: c.values[code] if code >= 0 else "" for c, code in zip(self.label_columns, codes, strict=True)}

    def left_out(self) -> list[tuple[str, str]]:
        """Name and reason of the entries of the source that gave no image."""
        if LEFT_OUT not in self._checksums:
            return []
        return [(name, reason) for name, reason in read_table(self.path / LEFT_OUT)[1:]]

    def _decode(self, resolution: int, index: int, mirrored: bool) -> NDArray[np.uint8]:
        archive, name = self._zips[resolution], member_name(index)
        try:
            picture = Image.open(io.BytesIO(self.encoded(index, resolution)), formats=("PNG",))
            if mirrored:
                picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)  # type: ignore[assignment]
            image = np.asarray(picture)
        except (OSError, SyntaxError) as error:
            raise UserError(f"{archive.path}: {name} is damaged ({error}); pack the data again") from error
        image = image.reshape(*image.shape[:2], -1)  # grey comes without its channel axis
        expected = (*self.extent(resolution), self.channels)
        if image.shape != expected:
            raise UserError(f"{archive.path}: {name} has the shape {image.shape}, expected {expected}")
        return image

    def verify(self, zips: bool = True) -> None:
        """Reads everything and compares it with the checksums made when it was packed.

        Args:
            zips: Read the zips of PNGs too. Without them it is a matter of seconds, and a damaged PNG is still noticed
                when it is read, because zips carry a checksum for each file.

        Raises:
            UserError: Names the files that differ.
        """
        names = [name for name in self._checksums if zips or not name.endswith(".zip")]
        found = file_checksums(self.path, names)
        damaged = [name for name in names if found[name] != self._checksums[name]]
        if damaged:
            files = ", ".join(damaged)
            raise UserError(f"{self.path}: damaged since it was packed: {files}; copy them again or pack again")
        if self.checksum != pack_checksum(read_description(self.path)):
            raise UserError(f"{self.path}: dataset.json was changed since the data was packed; pack the data again")


def _mirror(pixels: NDArray[np.uint8], mirrored: NDArray[np.bool_]) -> None:
    """Mirrors some of the images ``(n, H, W, C)`` left to right, in place.

    PyTorch's flip of a channels-last tensor moves whole pixels, five times as fast as NumPy's reversed copy.
    """
    import torch  # not needed while packing

    rows = np.flatnonzero(mirrored)
    some = torch.from_numpy(np.take(pixels, rows, axis=0)).permute(0, 3, 1, 2)
    pixels[rows] = torch.flip(some, [3]).permute(0, 2, 3, 1).numpy()
