"""The command line: one Typer app a file, each of which parses, calls and prints."""
