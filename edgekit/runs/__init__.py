"""Run folders: the artifact store, recipes, references to artifacts, named sets, results."""
