"""The ranked queue: filters, orderings, pages, shares and counts."""
