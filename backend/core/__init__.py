"""Everything the web and the worker share."""
