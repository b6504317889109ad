"""To AWS: the bundle that Lambda runs, and the stack that it runs in. Nothing of this is in a bundle."""
