"""A training run from its first step to its last, with its checkpoints, reports and measurements."""
