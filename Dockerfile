# The program and nothing else: an environment made in one stage, copied into the other. It runs as a user without a
# name or a home, on a root file system that cannot be written to, and needs no writable folder but perhaps /tmp.
#
#     docker build -t tallystream .                             # --build-arg PACKAGES=full: with the extras for schema
#                                                               # registries and traces
#     docker run --read-only -e TALLYSTREAM_POSTGRES_DSN=… tallystream migrate

ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
ARG PACKAGES=runtime
WORKDIR /src
# Versions and hashes are those that were tested.
COPY requirements/build.lock requirements/runtime.lock requirements/full.lock requirements/
RUN python -m venv --without-pip /opt/tallystream
RUN pip --python /opt/tallystream/bin/python install --no-cache-dir --no-compile --require-hashes -r requirements/${PACKAGES}.lock
RUN pip install --no-cache-dir --require-hashes -r requirements/build.lock
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY ingest ingest
COPY sql sql
COPY schema schema
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel .
RUN pip --python /opt/tallystream/bin/python install --no-cache-dir --no-index --no-deps /wheel/tallystream-*.whl
RUN /opt/tallystream/bin/python -m compileall -q /opt/tallystream/lib

FROM python:${PYTHON}-slim-bookworm
COPY --from=build /opt/tallystream /opt/tallystream
# What the environment says wins over a settings file: the port below is where the health check looks.
ENV PATH=/opt/tallystream/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    TALLYSTREAM_HTTP_HOST=0.0.0.0 \
    TALLYSTREAM_HTTP_PORT=9480
WORKDIR /tmp
USER 10001:10001
EXPOSE 9480
STOPSIGNAL SIGTERM
# For `run` and `compact`: the loop turns, whatever the state of PostgreSQL and Kafka.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['TALLYSTREAM_HTTP_PORT'] + '/live', timeout=4)"]
ENTRYPOINT ["tallystream"]
CMD ["run"]
