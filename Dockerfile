# Three images: `web` (without torch), `worker` (torch for CPUs), `worker-gpu` (torch with CUDA).
# constraints.txt pins every package. Nothing runs as root. Guide: docs/operations.md.

# The Python that the tests run on. A digest pins it: --build-arg PYTHON=3.11-slim-bookworm@sha256:…
ARG PYTHON=3.11-slim-bookworm

# ── the base of all images ──────────────────────────────────────────────────────────────────────

FROM python:${PYTHON} AS runtime
# Winnow lies in /opt/code, its packages in /opt/winnow, networks of your own in /networks.
ENV PATH=/opt/code/bin:/opt/winnow/bin:$PATH \
    PYTHONPATH=/opt/code:/networks \
    PYTHONUNBUFFERED=1 \
    WINNOW_HOME=/data
# A named volume takes the owner of the folder that it is mounted on.
RUN useradd --uid 10001 --user-group --home-dir /data --no-create-home \
        --shell /usr/sbin/nologin winnow \
    && install --directory --owner winnow --group winnow --mode 0700 /data
WORKDIR /data
USER 10001:10001

# ── web: packages in one layer, code in the next, so that an upgrade writes only the code ─────────

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
RUN pip install --no-deps --target /opt/code .

FROM runtime AS web
COPY --from=web-packages /opt/winnow /opt/winnow
COPY --from=web-code /opt/code /opt/code
# In a container, 127.0.0.1 cannot be reached; the host decides what is published.
ENV WINNOW_HOST=0.0.0.0 \
    WINNOW_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=60s --timeout=20s --start-period=30s CMD ["python", "-m", "backend.probe", "web"]
CMD ["winnow", "serve"]

# ── workers ─────────────────────────────────────────────────────────────────────────────────────

FROM web-packages AS worker-packages
# PyPI's torch brings CUDA (gigabytes). This index has the same versions for CPUs, called "+cpu".
# It is the only index for these two: if it is away, the build fails and takes no other torch.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN sed --quiet --regexp-extended 's/^(torch|torchvision)==.*/&+cpu/p' constraints.txt > torch.txt \
    && pip install --no-deps --index-url ${TORCH_INDEX} --requirement torch.txt
RUN pip install --constraint constraints.txt --constraint torch.txt ".[worker]"

FROM web-code AS worker-code
COPY worker worker
RUN rm -r /opt/code && pip install --no-deps --target /opt/code .

FROM runtime AS worker
COPY --from=worker-packages /opt/winnow /opt/winnow
COPY --from=worker-code /opt/code /opt/code
HEALTHCHECK --interval=60s --timeout=20s --start-period=30s CMD ["python", "-m", "backend.probe", "worker"]
CMD ["winnow", "worker"]

FROM web-packages AS worker-gpu-packages
RUN pip install --constraint constraints.txt ".[worker]"

FROM runtime AS worker-gpu
COPY --from=worker-gpu-packages /opt/winnow /opt/winnow
COPY --from=worker-code /opt/code /opt/code
HEALTHCHECK --interval=60s --timeout=20s --start-period=30s CMD ["python", "-m", "backend.probe", "worker"]
CMD ["winnow", "worker"]

# Last, so that a plain `docker build .` builds the web.
FROM web
