"""What is behind each URL. One file, one part of the page."""
