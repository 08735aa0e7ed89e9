"""Tables of outcomes, battles and prompts: read, imported, described, held together and split."""
