"""What others add: shipped plugins, each written as an outsider would write it."""
