"""What Hydra starts jobs with. It finds launchers and sweepers in this package only."""
