"""`inspect`: what a model holds, what each runtime can run of it, layer by layer, and where the time goes."""
