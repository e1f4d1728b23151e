"""A package, so that pytest ends what its fixtures hold, and their environment, with its last test."""
