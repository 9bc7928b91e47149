"""Features of pictures from frozen, published networks (docs/method.md, section 10)."""
