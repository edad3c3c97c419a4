"""Uses a trained learner: measures it, adapts it, predicts with it, exports it."""
