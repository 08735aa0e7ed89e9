"""C++ structs of numbers as tables of names, for native modules only: nothing here is called from Python."""
