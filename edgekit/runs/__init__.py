"""Run folders: the store, recipes, references to artifacts, sets by name, results."""
