"""The building blocks of the configuration: typed sections, YAML text, and search dimensions."""
