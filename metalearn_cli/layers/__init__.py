"""The layers of a network. Each runs many tasks in one call, and every task has its own weights."""
