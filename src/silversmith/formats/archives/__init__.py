"""Objects unpacked: compressions, zip and tar archives, and the bytes that readers get."""
