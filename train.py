"""Train a GAN, or go on with a run. See `python train.py --help` and README.md."""

from commands.app import hydra_main
from commands.train import train
from conf.schemas import TrainConfig

main = hydra_main("train", train, TrainConfig, "Train a GAN, or go on with the run in run_dir.", groups=True)

if __name__ == "__main__":
    main()
