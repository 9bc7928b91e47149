"""Derivatives along a training: fused passes and the adjoint recursion."""
