# One image for the worker and for the command line: `docker run --init … dbml verify`.
#
# PYTHON_IMAGE may be any image with python3 from 3.11 on, its module venv, and useradd.  Nothing is installed by
# a system's package manager.  Where the build reaches no package index, it takes what is in wheels/
# (docs/how-to/run-with-docker.md).
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
# Only what .dockerignore lets through: the package, and wheels/ where there is one.
COPY . .
RUN if ls wheels/*.whl >/dev/null 2>&1; then set -- --no-index --find-links /src/wheels; fi \
    && python3 -m venv /opt/dbml \
    && /opt/dbml/bin/pip install --no-cache-dir --disable-pip-version-check "$@" '.[worker]'

FROM ${PYTHON_IMAGE}
# The last two are where docker-compose.hardened.yml has volumes, which begin as copies of them.
RUN groupadd --system --gid 10001 dbml && useradd --system --create-home --uid 10001 --gid 10001 dbml \
    && install -d -o 10001 -g 10001 -m 700 /run/dbml /var/cache/dbml
COPY --from=build /opt/dbml /opt/dbml
ENV PATH=/opt/dbml/bin:$PATH PYTHONUNBUFFERED=1
USER dbml
WORKDIR /home/dbml
EXPOSE 7070
# The DSN comes by DBML_DSN: it holds a password, and a command line is there for all to see.
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 CMD ["dbml", "verify"]
# Start it with an init (`docker run --init`, `init: true`), which reaps what a script's processes leave behind.
CMD ["dbml", "worker", "--listen", "0.0.0.0:7070"]
