"""Machines on which a step comes out otherwise than where the run was trained."""

from worker.engine.training.runner import Runner


def other_arithmetic(monkeypatch):
    """A machine whose sums end in other bits."""
    real = Runner.advance

    def advance(self, *arguments):
        (params, state), logits, losses = real(self, *arguments)
        return (params * (1 + 1e-6), state), logits, losses

    monkeypatch.setattr(Runner, "advance", advance)


def other_rate(monkeypatch):
    """A version whose learning rate is another by a thousandth."""
    real = Runner.rate
    monkeypatch.setattr(Runner, "rate", lambda self, epoch, t: real(self, epoch, t) * 1.001)
