"""Learning as pure functions on tensors. It imports only torch and layers/, reads no file and prints nothing."""
