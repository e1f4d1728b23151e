"""How the site of `docs/` is built (`make docs`): what mkdocs adds to the folder, and the checks that fail the build."""
