"""Encoders that turn a picture or a text into a vector: embedded ones that need no model, and local transformer models."""
