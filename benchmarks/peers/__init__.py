"""Other libraries, called as their users call them. They live in an environment of their own, never in requirements.txt."""
