"""Measure what generators make. See `python evaluate.py --help` and docs/evaluating.md."""

if __name__ == "__main__":
    from commands.early_interrupt import end_at_once

    end_at_once()

if __name__ != "__mp_main__":  # worker processes import this file and need nothing of it
    from commands.app import hydra_main
    from conf.evaluate_schema import EvaluateConfig
    from imago.evaluation.protocol import Protocol

    main = hydra_main(
        "evaluate",
        "commands.evaluate:evaluate",
        EvaluateConfig,
        "Measure what generators make.",
        groups={"data": {}, "protocol": {"pggan": Protocol}},
        when_interrupted="what was measured of real images is kept",
    )

if __name__ == "__main__":
    main()
