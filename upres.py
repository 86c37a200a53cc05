"""Enlarge faces, photos and films stage by stage, from noise or from files. See `python upres.py --help`."""

if __name__ == "__main__":
    from commands.early_interrupt import end_at_once

    end_at_once()

from commands.app import hydra_main
from conf.upres_schema import UpresConfig

main = hydra_main(
    "upres",
    "commands.upres:upres",
    UpresConfig,
    "Enlarge faces, photos and films stage by stage, from noise or from files.",
)

if __name__ == "__main__":
    main()
