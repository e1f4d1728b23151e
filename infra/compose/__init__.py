"""The stack with Docker Compose: what it needs before it starts."""
