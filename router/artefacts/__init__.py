"""The checkpoint file: typed metadata and named arrays, read, checked and written."""
