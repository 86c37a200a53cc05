"""Pack, rank or verify data sets. See `python prepare.py --help` and docs/preparing.md."""

if __name__ == "__main__":
    from commands.early_interrupt import end_at_once

    end_at_once()

if __name__ != "__mp_main__":  # worker processes import this file and need nothing of it
    from commands.app import hydra_main
    from conf.prepare_schema import PrepareConfig
    from conf.source_schemas import ONLY_TO_PREPARE, SOURCES

    main = hydra_main(
        "prepare",
        "commands.prepare:prepare",
        PrepareConfig,
        "Pack, rank or verify data sets.",
        groups={"source": SOURCES | ONLY_TO_PREPARE},
        when_interrupted="{command} goes on where this one stopped",
    )

if __name__ == "__main__":
    main()
