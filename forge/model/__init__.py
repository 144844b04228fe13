"""The model side: tensors, paths and settings in, results out. Knows no git and no command line."""
