"""Speed benchmark: the sampler, the training step and the kernels, against other libraries on the same machine in one run."""
