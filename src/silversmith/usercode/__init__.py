"""The code that users write: loading it, reading its source, its fingerprint. Nothing here runs a transform."""
