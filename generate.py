"""Make pictures, grids and films from a trained generator. See `python generate.py --help`."""

if __name__ == "__main__":
    from commands.early_interrupt import end_at_once

    end_at_once()

from commands.app import hydra_main
from conf.generate_schema import GenerateConfig

main = hydra_main(
    "generate", "commands.generate:generate", GenerateConfig, "Make pictures, grids and films from a trained generator."
)

if __name__ == "__main__":
    main()
