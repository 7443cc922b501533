"""The command line: one Typer application per file, which parses arguments, calls the library and prints."""
