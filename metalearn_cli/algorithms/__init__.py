"""One file for each algorithm. A file that exports `Config` and `build` is an algorithm; nothing else registers it."""
