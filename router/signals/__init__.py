"""What can be said of a text without a model: the language of rules. `heads.methods.rules` learns weights of them, the
config's `routing.rules` act on them."""
