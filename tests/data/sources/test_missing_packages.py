"""Formats whose packages are not installed: one line that says what to install."""

import sys
from pathlib import Path
from typing import Any

import pytest

from imago.data.sources.hdf5 import HDF5Source
from imago.data.sources.lsun import LSUN
from imago.data.sources.parquet import ParquetSource
from imago.errors import MissingDependencyError


@pytest.mark.parametrize(
    ("reader", "file", "package"),
    [
        (HDF5Source, "a.h5", "h5py"),
        (ParquetSource, "a.parquet", "pyarrow"),
        (LSUN, "data.mdb", "lmdb"),
    ],
)
def test_the_message_names_the_extra(
    reader: Any, file: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / file).write_bytes(b"something")
    for name in (package, f"{package}.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=rf"{package} is needed .*pip install 'imago\[formats\]'"):
        reader(tmp_path)
