"""Networks, one file each; a file `ds_cnn.py` holds the class `DsCnn` and is called `ds-cnn` in recipes."""
