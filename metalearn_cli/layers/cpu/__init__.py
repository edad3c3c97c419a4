"""Fast forms for a CPU: convolution, norm and activation of many tasks as one function, with hand-written derivatives.

You need not read this folder to follow the mathematics: `layers/convolution.py` and `layers/norm.py` define the result.
"""
