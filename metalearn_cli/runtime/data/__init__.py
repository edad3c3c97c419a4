"""From a prepared dataset to the tensors of a batch of tasks."""
