# A consumer: commands in, events out. Built from the repository's root, for a CPU or for NVIDIA's GPUs:
#   docker build --file compose/consumer.Dockerfile --target cpu --tag detections-consumer:cpu .
#   docker build --file compose/consumer.Dockerfile --target gpu --tag detections-consumer:gpu .

ARG PYTHON=python:3.11.15-slim-bookworm

FROM ${PYTHON} AS packages-cpu
COPY compose/requirements-consumer-cpu.lock /requirements.lock
RUN python -m venv --without-pip /venv \
 && pip --python /venv install --no-cache-dir --require-hashes --only-binary :all: --requirement /requirements.lock

# the two source packages hold no sources: they name the wheels that belong together
FROM ${PYTHON} AS packages-gpu
COPY compose/requirements-build.lock compose/requirements-consumer-gpu.lock /
RUN python -m venv --without-pip /venv \
 && pip --python /venv install --no-cache-dir --require-hashes --only-binary :all: --requirement /requirements-build.lock \
 && pip --python /venv install --no-cache-dir --require-hashes --only-binary :all: \
    --no-binary tensorrt-rtx,tensorrt-rtx-cu13 --no-build-isolation --requirement /requirements-consumer-gpu.lock

FROM ${PYTHON} AS consumer
ENV PATH=/venv/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STORAGE_DIR=/storage \
    MODELS_DIR=/models \
    CONSUMER_METRICS_ADDRESS=0.0.0.0:9464 \
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1
RUN install --directory --owner=10001 --group=10001 --mode=0750 /storage /models
COPY contracts /app/contracts
COPY engine /app/engine
COPY consumers /app/consumers
COPY models /app/models
RUN python -m compileall -q /app
WORKDIR /app
USER 10001:10001
EXPOSE 9464
VOLUME /storage /models
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request; port = os.environ[\"CONSUMER_METRICS_ADDRESS\"].rpartition(\":\")[2]; urllib.request.urlopen(f'http://127.0.0.1:{port}/health/live', timeout=4)"]
ENTRYPOINT ["python", "-P", "-m", "consumers"]

FROM consumer AS cpu
COPY --from=packages-cpu /venv /venv

# the driver comes with the machine; CUDA and cuDNN are in the lock file. The driver keeps what it compiles in HOME, 256 MB or
# more untold: Kubernetes ends a pod whose /tmp exceeds its 64 MiB
FROM consumer AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    CUDA_CACHE_MAXSIZE=33554432 \
    CONSUMER_TENSORRT_LIBRARY=tensorrt_rtx
COPY --from=packages-gpu /venv /venv
