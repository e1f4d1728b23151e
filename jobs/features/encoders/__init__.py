"""Encoders that turn a picture or a text into a vector: an embedded one without any model, and local transformer models."""
