"""What a model finds: the day's models on one hold-out, and the candidates of every user.

May import: base, lake, shop, clusters, training, serving, registry.
"""
