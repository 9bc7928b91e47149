"""Networks: the registry, published and paper networks, and weights."""
