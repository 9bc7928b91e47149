"""The ranked queue: filters, orders, pages, shares and counts."""
