"""Turns a prepared dataset into the tensors of batches of tasks."""
