"""Train a GAN, or go on with a run. See `python train.py --help` and README.md."""

if __name__ == "__main__":
    from commands.early_interrupt import end_at_once

    end_at_once()

GROUPS = ("callbacks", "data", "experiment", "growth", "launcher", "logger", "loss", "model", "sweep", "trainer")

if __name__ != "__mp_main__":  # processes that pack data import this file and need nothing of it
    from commands.app import hydra_main
    from conf.schemas import TrainConfig

    main = hydra_main(
        "train",
        "commands.train:train",
        TrainConfig,
        "Train a GAN, or go on with the run in run_dir.",
        groups={group: {} for group in GROUPS},
        when_interrupted="{command} goes on from the newest checkpoint",
    )

if __name__ == "__main__":
    main()
