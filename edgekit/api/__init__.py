"""The functions and objects of `import edgekit`: the commands for Python, with what people hold in Python."""
