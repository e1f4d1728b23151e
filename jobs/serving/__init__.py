"""Serving bundles: built from a trained model, registered with it, kept on disk for production."""
