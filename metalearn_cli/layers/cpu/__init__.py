"""Convolution, norm and activation of many tasks as one function on a CPU, with derivatives by hand.

Nobody needs to read this folder to follow the mathematics: `layers/convolution.py` and `layers/norm.py` say
what it computes.
"""
