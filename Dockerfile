# One image for the worker and for the command line: `docker run … dbml verify`.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY dbml dbml
COPY sql sql
COPY migrations migrations
RUN python -m venv /opt/dbml && /opt/dbml/bin/pip install --no-cache-dir '.[worker]'

FROM python:3.13-slim
# An init reaps whatever a script's processes leave behind.
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --uid 10001 dbml
COPY --from=build /opt/dbml /opt/dbml
ENV PATH=/opt/dbml/bin:$PATH PYTHONUNBUFFERED=1
USER dbml
WORKDIR /home/dbml
EXPOSE 7070
# The DSN comes by DBML_DSN: it holds a password, and a command line is there for all to see.
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 CMD ["dbml", "verify"]
ENTRYPOINT ["tini", "--"]
CMD ["dbml", "worker", "--listen", "0.0.0.0:7070"]
