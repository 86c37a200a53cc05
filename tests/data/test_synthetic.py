import numpy as np
import pytest
import torch

from imago.data.packing import pack
from imago.data.sources.source import Item
from imago.data.synthetic import Filter, GeneratedPictures, no_copies, select
from imago.errors import UserError


def pictures(numbers):
    """Picture n is n everywhere."""
    return torch.tensor(list(numbers), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()


def only(name, predicate):
    return Filter(name, lambda images: np.array([predicate(int(image[0, 0, 0])) for image in images], dtype=bool))


EVEN, NO_SIX = only("odd", lambda n: n % 2 == 0), only("six", lambda n: n != 6)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
def test_the_first_pictures_that_pass_whatever_the_batches(batch_size):
    selection = select(pictures, 5, [EVEN, NO_SIX], batch_size, most=100)
    assert selection.numbers == [0, 2, 4, 8, 10]
    assert selection.tried == 11
    assert selection.left_out == {"odd": 5, "six": 1}


def test_nothing_is_made_without_a_filter():
    selection = select(lambda numbers: pytest.fail("made"), 4, [], 2, most=4)
    assert selection.numbers == [0, 1, 2, 3]


def test_too_few_pass():
    with pytest.raises(UserError, match="of 20 pictures only 0 of the 3 wanted were kept \\(20 none\\)"):
        select(pictures, 3, [only("none", lambda n: False)], 8, most=20)


def test_progress_tells_how_many_are_kept():
    told = []
    select(pictures, 3, [EVEN], 2, 100, lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


class Reals:
    name = "reals"
    values = (0, 10, 20, 20, 100)  # two are equal

    def __len__(self):
        return len(self.values)

    def fingerprint(self):
        return "reals"

    def item_name(self, index):
        return str(index)

    def read(self, index):
        return Item(np.full((4, 4, 3), self.values[index], dtype=np.uint8), str(index))


def test_copies_are_left_out(tmp_path):
    """Distances of plain pictures are their difference times √48: the nearest others are 10, 10, 0, 0, 80 away."""
    dataset = pack(Reals(), tmp_path / "reals", resolution=4)
    keep = no_copies(dataset, 4, closest=0.5, mirror=True).keep
    assert keep(pictures([0, 5, 30, 31, 60, 99])).tolist() == [False, False, False, True, True, False]
    assert keep(pictures([40])).tolist() == [True]
    with pytest.raises(UserError, match="closest is a share"):
        no_copies(dataset, 4, 1.5, mirror=False)


def test_a_generated_picture_does_not_depend_on_the_order_of_reading():
    calls = []

    def counted(numbers):
        calls.append(list(numbers))
        return pictures(numbers)

    source = GeneratedPictures("s", counted, lambda n: {"Number": str(n)}, [1, 4, 5, 9, 12], "id", 2)
    assert source.item_name(3) == "synthetic_0000009"
    assert source.read(3).image[0, 0, 0] == 9
    assert source.read(3).labels == {"Number": "9"}
    assert source.read(2).image.shape == (4, 4, 3)
    assert source.read(4).image[0, 0, 0] == 12
    assert calls == [[5, 9], [12]]


def test_the_fingerprint_tells_what_the_pictures_depend_on():
    def make(numbers=(1, 2), identity="id", batch=2):
        return GeneratedPictures("s", pictures, None, numbers, identity, batch).fingerprint()

    assert len({make(), make(numbers=(1, 3)), make(identity="x"), make(batch=3)}) == 4
