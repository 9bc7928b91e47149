"""Code that the web and the worker share."""
