import numpy as np
import pytest

from imago.data.joined import JoinedDataset
from imago.data.packing import pack
from imago.data.sources.source import Item
from imago.errors import UserError


class Patches:
    """Plain pictures whose colour is their number."""

    def __init__(self, name, numbers, labels=None, channels=3):
        self.name, self.numbers, self.labels, self.channels = name, list(numbers), labels, channels

    def __len__(self):
        return len(self.numbers)

    def fingerprint(self):
        return f"{self.name}{self.numbers}{self.labels}{self.channels}"

    def item_name(self, index):
        return f"{self.name}{index}"

    def read(self, index):
        image = np.full((8, 8, self.channels), self.numbers[index], dtype=np.uint8)
        image[:, :4] += 1  # a left and a right side
        return Item(image, self.item_name(index), None if self.labels is None else self.labels[index])


@pytest.fixture
def parts(tmp_path):
    labels = [{"Smile": "yes", "Age": "old"}, {"Smile": "no", "Age": "young"}, {"Smile": "yes"}]
    real = pack(Patches("real", [10, 20, 30], labels), tmp_path / "real", resolution=8)
    plain = pack(Patches("fake", [40, 50]), tmp_path / "fake", resolution=8)
    labelled = [{"Smile": "no", "Hat": "cap"}, {"Smile": "perhaps", "Hat": "no"}]
    other = pack(Patches("other", [60, 70], labelled), tmp_path / "other", resolution=8)
    return real, plain, other


def test_images_of_all_parts_in_any_order(parts):
    joined = JoinedDataset(parts)
    assert len(joined) == 7
    indices = np.array([6, 0, 3, 2, 4, 3])
    images = joined.images(indices, 8)
    assert images.shape == (6, 3, 8, 8)
    assert images[:, 0, 0, 7].tolist() == [70, 10, 40, 30, 50, 40]
    mirrored = joined.images(indices, 8, np.array([True, False, True, False, False, False]))
    assert mirrored[:, 0, 0, 0].tolist() == [70, 11, 40, 31, 51, 41]
    out = np.zeros((6, 4, 4, 3), dtype=np.uint8)
    joined.images(indices, 4, None, out)
    assert out[:, 0, 3, 0].tolist() == [70, 10, 40, 30, 50, 40]
    assert joined.item_name(5) == "other0"
    with pytest.raises(IndexError):
        joined.images(np.array([7]), 8)


def test_labels_are_matched_by_name(parts):
    joined = JoinedDataset(parts)
    texts = [joined.label_texts(i) for i in range(7)]
    assert texts[0] == {"Smile": "yes", "Age": "old"}
    assert texts[3] == texts[4] == {"Smile": "", "Age": ""}
    assert texts[5] == {"Smile": "no", "Age": ""}
    assert texts[6] == {"Smile": "", "Age": ""}  # a value that the real set does not know
    assert JoinedDataset(parts[1:]).labels is None  # as the first part


def test_the_checksum_is_of_all_parts_in_their_order(parts):
    real, plain, other = parts
    sums = {JoinedDataset(some).checksum for some in ([real], [real, plain], [real, other], [plain, real])}
    assert len(sums) == 4


def test_parts_that_do_not_fit(parts, tmp_path):
    grey = pack(Patches("grey", [1, 2], channels=1), tmp_path / "grey", resolution=8, channels=1)
    with pytest.raises(UserError, match=r"grey holds images of 1 channels .* cannot be joined"):
        JoinedDataset([parts[0], grey])
    small = pack(Patches("small", [1, 2]), tmp_path / "small", resolution=4)
    with pytest.raises(UserError, match="holds no resolution 8"):
        JoinedDataset([parts[0], small]).extent(8)
