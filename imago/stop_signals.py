"""The signals by which a cluster asks a run to end."""

import signal

# Each with whether the job is to be started again. Slurm sends SIGTERM when it cancels a job, which is then over, and
# when it requeues one, which it starts again by itself.
STOP_SIGNALS = {signal.SIGUSR1: True, signal.SIGUSR2: True, signal.SIGTERM: False}


def ignore_stop_signals(worker: int = 0) -> None:
    """Of loader processes: what Slurm sends to all processes of a job must not take the batches away.

    They end when the process that they load for does.

    Args:
        worker: As ``worker_init_fn`` of a DataLoader gets it.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
