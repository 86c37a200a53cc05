import zipfile
import zlib
from pathlib import Path

from imago.data.archives import stored_member, write_directory


def test_members_beyond_four_gigabytes(tmp_path: Path):
    # Three members of 2 GiB that are holes in a sparse file, then one with content.
    content = b"far away"
    sizes = [2**31 - 2**16] * 3
    members = [stored_member(f"{i}", 0, size) for i, size in enumerate(sizes)]
    members.append(stored_member("last", zlib.crc32(content), len(content)))
    with open(tmp_path / "large.zip", "w+b") as file:
        for member in members[:-1]:
            file.write(member.FileHeader())
            file.seek(member.file_size, 1)
        file.write(members[-1].FileHeader() + content)
        write_directory(file, members)
    with zipfile.ZipFile(tmp_path / "large.zip") as archive:
        assert archive.getinfo("last").header_offset > 2**32
        assert archive.read("last") == content


def test_many_members(tmp_path: Path):
    members = [stored_member(f"{i}.txt", zlib.crc32(b"%d" % i), len(b"%d" % i)) for i in range(70_000)]
    with open(tmp_path / "many.zip", "w+b") as file:
        for i, member in enumerate(members):
            file.write(member.FileHeader() + b"%d" % i)
        write_directory(file, members)
    with zipfile.ZipFile(tmp_path / "many.zip") as archive:
        assert len(archive.namelist()) == 70_000
        assert archive.read("69999.txt") == b"69999"
