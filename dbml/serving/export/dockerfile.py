"""The Dockerfile of a service: two stages, the second without pip, compiler or root."""

from __future__ import annotations

import json

from dbml.serving.export.plan import Plan

USER = 10001
PORT = 5001
COPIED = ("/opt/service", "/srv/service")  # what the second stage adds to its base, a layer each

_TEXT = """# Made by dbml for {name} version {version}.  The same folder builds the same image:
#   docker build -t {tag} .
# PYTHON_IMAGE may be any image with Python {python} and its module venv.{wheels_note}
ARG PYTHON_IMAGE=python:{python}-slim

FROM ${{PYTHON_IMAGE}} AS build
COPY requirements.lock /build/{copy_wheels}
RUN python3 -m venv --without-pip /opt/service \\
    && python3 -m venv /build/venv \\
    && /build/venv/bin/pip --disable-pip-version-check --python /opt/service/bin/python3 install --no-cache-dir --no-compile \\
        --require-hashes --only-binary :all: {sources}-r /build/requirements.lock \\
    && find /opt/service -depth -type d \\( -name tests -not -path '*/numpy/*' -o -name __pycache__ \\) -exec rm -rf {{}} + \\
    && find /opt/service -name '*.pyx' -o -name '*.pxd' -o -name '*.h' -o -name '*.hpp' -o -name '*.a' \\
        -o -path '*/pyarrow/*flight*' -not -type d | xargs -r rm -f
COPY app /opt/service/app
COPY azureml-models /srv/service/azureml-models
COPY source /srv/service/source
COPY service.json sbom.cdx.json requirements.lock /srv/service/
RUN chmod -R a+rX,go-w /srv/service /opt/service

FROM ${{PYTHON_IMAGE}}
{labels}
COPY --from=build /opt/service /opt/service
COPY --from=build /srv/service /srv/service
ENV PATH=/opt/service/bin:$PATH PYTHONPATH=/opt/service/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \\
    HOME=/tmp DBML_FOLDER=/srv/service DBML_HOST=0.0.0.0 DBML_PORT={port} OMP_NUM_THREADS=1
# Runs with a read-only root (docker run --read-only --tmpfs /tmp) and as nobody in particular.
USER {user}:{user}
WORKDIR /srv/service
EXPOSE {port}
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \\
    CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/v2/health/ready', timeout=4)"]
CMD ["python3", "-m", "dbml.serving.app"]
"""


def dockerfile(plan: Plan, *, wheels: bool) -> str:
    """Return the Dockerfile of a plan; wheels: packages come from the folder wheels/ and from no index."""
    labels = " \\\n      ".join(
        f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sorted(plan.labels().items())
    )
    return _TEXT.format(
        name=plan.name, version=plan.version, tag=f"{plan.dns_name}:{plan.version}", python=_minor(plan.python_version),
        wheels_note="\n# Packages come from wheels/: the build needs no index." if wheels else "",
        copy_wheels="\nCOPY wheels /build/wheels" if wheels else "",
        sources="--no-index --find-links /build/wheels " if wheels else "", labels=f"LABEL {labels}", port=PORT, user=USER,
    )  # fmt: skip


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
