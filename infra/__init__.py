"""How the pipeline runs: the local stack behind `make run`, and checks of the machine."""
