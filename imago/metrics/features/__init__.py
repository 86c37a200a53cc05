"""Networks that turn images into features, for the metrics that compare distributions of features."""
