"""Evaluation: the metrics applied to real and generated images, by protocol, as a report."""
