"""The function behind each command: one file or folder per verb, with the same name as its file in `edgekit.cli`."""
