"""The command line: one small module per command; parses, calls one task, renders its result."""
