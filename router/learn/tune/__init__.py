"""Which price or threshold meets what is asked: found, checked and drawn."""
