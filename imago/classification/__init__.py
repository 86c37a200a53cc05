"""How well attributes of faces can be read from images: the benchmark's split, training images, scores and report."""
