"""How a batch of tasks is computed: chunks, threads, processes, devices, memory."""
