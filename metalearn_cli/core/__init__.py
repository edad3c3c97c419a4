"""Pure functions on tensors; imports torch alone, and knows no file, no experiment and no printing."""
