"""Exchanges between processes, on a group of one."""

from pathlib import Path

import torch.distributed

from imago.distributed import gathered, leave


def gloo_threads() -> list[str]:
    """Names of the threads that gloo runs in this process."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


def test_no_thread_of_gloo_outlives_the_work(tmp_path):
    """One that does can abort the process while Python shuts down."""
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/meeting", world_size=1, rank=0)
    assert gathered("mine") == ["mine"]
    assert gloo_threads()
    leave()
    assert gloo_threads() == []
    assert gathered("mine") == ["mine"]  # of this process alone
    leave()  # once is enough
