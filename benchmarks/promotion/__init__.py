"""How often the promotion gate lets better, equal and worse models pass, on per-user recall as real models leave it."""
