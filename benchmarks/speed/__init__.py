"""Speed benchmark: the sampler, the training step and the kernels against other libraries, on one machine and in one run."""
