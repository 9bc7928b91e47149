# syntax=docker/dockerfile:1
# Three images: `web` (without torch), `worker` (torch for CPUs), `worker-gpu` (torch with CUDA).
# constraints.txt pins every package. Nothing runs as root. Guide: docs/operations.md.

# The Python that the tests run on.
ARG PYTHON=3.11-slim-bookworm

# ── the base of all images ──────────────────────────────────────────────────────────────────────

FROM python:${PYTHON} AS runtime
ENV PATH=/opt/winnow/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    WINNOW_HOME=/data
# A named volume takes the owner of the folder that it is mounted on.
RUN useradd --uid 10001 --user-group --home-dir /data --no-create-home \
        --shell /usr/sbin/nologin winnow \
    && install --directory --owner winnow --group winnow --mode 0700 /data
WORKDIR /data
USER 10001:10001

# ── packages first, code last, so that a change of code builds in seconds ───────────────────────

FROM python:${PYTHON} AS web-packages
ENV PATH=/opt/winnow/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/winnow
WORKDIR /source
COPY pyproject.toml constraints.txt LICENSE ./
# Without code yet: an empty Winnow and its dependencies.
RUN touch README.md && pip install --constraint constraints.txt .

FROM web-packages AS web-code
COPY README.md ./
COPY backend backend
COPY frontend frontend
RUN pip install --no-deps --force-reinstall .

FROM web-packages AS worker-packages
# PyPI's torch brings CUDA (gigabytes). This index has the same version for CPUs; pip prefers its
# "+cpu".
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --constraint constraints.txt --extra-index-url ${TORCH_INDEX} ".[worker]"

FROM worker-packages AS worker-code
COPY README.md ./
COPY backend backend
COPY frontend frontend
COPY worker worker
RUN pip install --no-deps --force-reinstall .

FROM web-packages AS worker-gpu-packages
RUN pip install --constraint constraints.txt ".[worker]"

FROM worker-gpu-packages AS worker-gpu-code
COPY README.md ./
COPY backend backend
COPY frontend frontend
COPY worker worker
RUN pip install --no-deps --force-reinstall .

# ── the images ──────────────────────────────────────────────────────────────────────────────────

FROM runtime AS worker
COPY --from=worker-code /opt/winnow /opt/winnow
HEALTHCHECK --interval=60s --timeout=20s --start-period=30s CMD ["winnow", "health"]
CMD ["winnow", "worker"]

FROM runtime AS worker-gpu
COPY --from=worker-gpu-code /opt/winnow /opt/winnow
HEALTHCHECK --interval=60s --timeout=20s --start-period=30s CMD ["winnow", "health"]
CMD ["winnow", "worker"]

# Last, so that a plain `docker build .` builds it.
FROM runtime AS web
COPY --from=web-code /opt/winnow /opt/winnow
# In a container, 127.0.0.1 cannot be reached; the host decides what is published.
ENV WINNOW_HOST=0.0.0.0 \
    WINNOW_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=60s --timeout=20s --start-period=30s CMD ["winnow", "health", "--web"]
CMD ["winnow", "serve"]
