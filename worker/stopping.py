"""Ways in which a job stops before its end."""

from threading import Event

# Set when this process must end; a running job returns to the queue.
stopping = Event()


class JobFailed(Exception):
    """A job that cannot be done; the message says why, and how to fix it."""


class JobCancelled(Exception):
    """A user cancelled this job."""


class JobInterrupted(Exception):
    """This process must end; the job returns to the queue."""


class ClaimLost(Exception):
    """Another attempt owns the job; this attempt must write nothing."""
