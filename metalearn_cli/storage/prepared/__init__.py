"""Makes, writes, opens and checks prepared datasets."""
