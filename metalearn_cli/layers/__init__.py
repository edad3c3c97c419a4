"""What a network is made of: layers that run for many tasks at once, each with weights of its own."""
