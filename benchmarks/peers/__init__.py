"""Other libraries, called as their users call them. They have an environment of their own and are not in requirements.txt."""
