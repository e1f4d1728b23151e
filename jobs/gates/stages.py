"""The stages that have a gate, in the order in which a run comes to them."""

STAGES = ("raw", "features", "clusters", "training_set", "model")
