"""What a run does, in the order it does it: sampling, execution, training, evaluation, adaptation."""
