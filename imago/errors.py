"""What a user did, told in one line."""


class UserError(ValueError):
    """A mistake in the input, the configuration or the environment: what, where, and how to mend it.

    Commands print the message as a single line and exit with a non-zero code, without a traceback.
    """


def first_line(error: BaseException) -> str:
    """What an error says, short enough for a message: its first two lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:200] if lines else type(error).__name__


class MissingDependencyError(UserError):
    """An optional package is not installed.

    Args:
        package: The module that could not be imported.
        purpose: What it is needed for ("to write mp4 films").
        extra: The extra of this project that installs it.
    """

    def __init__(self, package: str, purpose: str, extra: str) -> None:
        super().__init__(f"{package} is needed {purpose} and is not installed; run: pip install 'imago[{extra}]'")
