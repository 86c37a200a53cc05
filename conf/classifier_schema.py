"""The keys of ``model=attribute_classifier``; see :class:`imago.classification.options.ClassificationOptions`."""

from dataclasses import dataclass, field


@dataclass
class ClassifierOptions:
    """All but ``_target_``; growth.batch_size and growth.learning_rate are those of the growth group."""

    attributes: list[str] | None = None  # label columns, in any case, eyes_color for Eyes Color; null: all
    base_width: int = 16  # channels of the first convolution; each block has twice as many, up to max_width
    max_width: int = 128
    dropout: float = 0.3
    epochs: float = 20.0  # passes through the real training part; total_images=… instead
    decay: str = "cosine"  # of the learning rate, to 0 at the end; or none
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])  # Adam
    eps: float = 1e-8  # Adam
    class_weights: str = "none"  # or balanced: values weigh as the inverse of their frequency
    augment: bool = True  # shift, brighten and contrast a little; data.mirror flips
    select_by: str = "balanced_accuracy"  # on the validation part; or accuracy, macro_f1
    validate_every: int | None = None  # images between two looks at the validation part; null: an epoch
    validation_share: float = 0.1  # of the labelled images
    test_share: float = 0.2
    split_seed: int = 0
    synthetic: list[str] = field(default_factory=list)  # packs added to the training part for a second row
    pseudo_labels: bool = True  # label what is unlabelled in them by the network of the first row
    confidence: float = 0.9  # least probability of such a label
    use_unlabelled: bool = False  # images of the data set without any label are synthetic ones, too
