"""What each command does, as functions: one file or folder per verb, of the same name as its file in `edgekit.cli`."""
