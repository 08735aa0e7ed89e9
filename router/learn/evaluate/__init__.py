"""`headgate eval`: routers side by side on held-out prompts, in figures, plots and one page."""
