"""The computation of a batch of tasks: in chunks, on threads, by several processes, on devices, within the memory."""
