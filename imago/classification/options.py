"""The options of the attribute benchmark, checked in one place."""

from collections.abc import Sequence
from dataclasses import dataclass

from imago.errors import UserError

SELECTIONS = ("accuracy", "balanced_accuracy", "macro_f1")


@dataclass(frozen=True)
class ClassificationOptions:
    """What is classified, by which network, trained how and tested on what.

    Attributes:
        attributes: Label columns, in any case and with any signs between words ("eyes_color"); None: all.
        base_width: Channels of the network's first convolution.
        max_width: Most channels of its blocks.
        dropout: Share of the heads' inputs that are dropped in training.
        epochs: Length of training in passes through the real training part.
        decay: "cosine": the learning rate falls from growth.learning_rate to 0 along half a cosine; "none".
        betas: Adam's β₁ and β₂.
        eps: Adam's ε.
        class_weights: "none", or "balanced": each value weighs as the inverse of its frequency in the training part.
        augment: Shift, brighten and contrast the training images a little.
        select_by: Score on the validation part, averaged over the attributes, that picks the network to test.
        validate_every: Images between two looks at the validation part; None: an epoch.
        validation_share: Share of the labelled images.
        test_share: Share of the labelled images.
        split_seed: Of the split.
        synthetic: Packed data sets whose images are added to the training part for the second row.
        pseudo_labels: Label what is unlabelled in them by the network of the first row.
        confidence: Least probability of a pseudo-label.
        use_unlabelled: Take images of the data set itself that have no label at all for synthetic ones.

    Raises:
        UserError: A value that makes no sense.
    """

    attributes: Sequence[str] | None = None
    base_width: int = 16
    max_width: int = 128
    dropout: float = 0.3
    epochs: float = 20.0
    decay: str = "cosine"
    betas: Sequence[float] = (0.9, 0.999)
    eps: float = 1e-8
    class_weights: str = "none"
    augment: bool = True
    select_by: str = "balanced_accuracy"
    validate_every: int | None = None
    validation_share: float = 0.1
    test_share: float = 0.2
    split_seed: int = 0
    synthetic: Sequence[str] = ()
    pseudo_labels: bool = True
    confidence: float = 0.9
    use_unlabelled: bool = False

    def __post_init__(self) -> None:
        for name, choices in (
            ("decay", ("cosine", "none")),
            ("class_weights", ("none", "balanced")),
            ("select_by", SELECTIONS),
        ):
            if getattr(self, name) not in choices:
                raise UserError(f"model.{name} must be one of {', '.join(choices)}, not {getattr(self, name)}")
        if not self.epochs > 0:
            raise UserError(f"model.epochs must be above 0, not {self.epochs}")
        if self.attributes is not None and not self.attributes:
            raise UserError("model.attributes is empty: name some, or give null for all")
        if self.validate_every is not None and self.validate_every < 1:
            raise UserError(f"model.validate_every must be at least 1 or null, not {self.validate_every}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"model.betas must be two numbers in [0, 1), not {list(self.betas)}")
        if not self.eps > 0:
            raise UserError(f"model.eps must be above 0, not {self.eps}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.dropout must lie in [0, 1), not be {self.dropout}")
        if not 0 <= self.confidence <= 1:
            raise UserError(f"model.confidence is a probability: it must lie in [0, 1], not be {self.confidence}")
