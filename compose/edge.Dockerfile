# The edge: bytes in, events out. Built from the repository's root:
#   docker build --file compose/edge.Dockerfile --tag detections-edge .

ARG PYTHON=python:3.11.15-slim-bookworm

FROM ${PYTHON} AS packages
COPY compose/requirements-edge.lock /requirements.lock
RUN python -m venv --without-pip /venv \
 && pip --python /venv install --no-cache-dir --require-hashes --only-binary :all: --requirement /requirements.lock

FROM ${PYTHON} AS edge
ENV PATH=/venv/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    EDGE_HOST=0.0.0.0 \
    EDGE_PORT=8000 \
    EDGE_METRICS_ADDRESS=0.0.0.0:9464 \
    STORAGE_DIR=/storage
RUN install --directory --owner=10001 --group=10001 --mode=0750 /storage
COPY --from=packages /venv /venv
COPY contracts /app/contracts
COPY edge /app/edge
RUN python -m compileall -q /app
WORKDIR /app
USER 10001:10001
EXPOSE 8000 9464
VOLUME /storage
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"EDGE_PORT\"]}/health/live', timeout=4)"]
ENTRYPOINT ["python", "-P", "-m", "edge"]
