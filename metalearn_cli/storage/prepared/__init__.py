"""Prepared datasets: how they are made, written, opened and checked."""
