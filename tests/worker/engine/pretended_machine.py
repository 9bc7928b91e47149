"""Machines whose steps differ from those of the run."""

from worker.engine.training.runner import Runner


def other_arithmetic(monkeypatch):
    """Pretend a machine whose sums end in other bits."""
    real = Runner.advance

    def advance(self, *arguments):
        (params, state), logits, losses = real(self, *arguments)
        return (params * (1 + 1e-6), state), logits, losses

    monkeypatch.setattr(Runner, "advance", advance)


def other_rate(monkeypatch):
    """Pretend a version whose learning rate differs by a thousandth."""
    real = Runner.rate
    monkeypatch.setattr(Runner, "rate", lambda self, epoch, t: real(self, epoch, t) * 1.001)
