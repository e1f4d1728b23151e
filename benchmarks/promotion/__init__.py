"""How often the promotion gate lets better, equal and worse models pass, on the per-user recall of real models."""
