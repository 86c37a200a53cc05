"""How good a picture of a face is, judged by its spectrum and by the traces that noise, JPEG and print leave.

Karras et al. 2018, appendix C, keep the best 30,000 of 202,599 aligned faces by "a frequency-based quality metric that
favors images whose power spectrum contains a broad range of frequencies and is approximately radially symmetric". The
metric itself was not published; this is one that answers to the description. What the sentence leaves open is that
white noise has the broadest and most symmetric spectrum of all, and that the edges of JPEG's blocks widen it too:
noise and blocks are therefore measured apart and counted against the picture.
"""

from imago.data.quality.score import COLUMNS, SMALLEST_SIDE, score_image

QUALITY_VERSION = 1  # raised whenever the same picture would get another score

__all__ = ["COLUMNS", "QUALITY_VERSION", "SMALLEST_SIDE", "score_image"]
