"""R as a language of scripts: one R process a satellite, driven over two pipes, never loaded into Python."""
