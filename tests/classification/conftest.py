"""A labelled pack that the tests share."""

from pathlib import Path

import pytest
from labelled_packs import bars, pack_items

from imago.data import PackedDataset


@pytest.fixture(scope="session")
def bar_pack(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """240 images with the columns "Main Colour" (three values) and "Bar" (two)."""
    folder: Path = tmp_path_factory.mktemp("packs")
    return pack_items(bars(240), folder / "bars")
