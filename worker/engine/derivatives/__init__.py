"""Fused passes and the adjoint recursion."""
