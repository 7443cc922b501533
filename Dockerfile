# Two images of one project:
#
#   docker build --target serve --tag dle-serve .    answers requests; holds no PyTorch, no compiler and no pip
#   docker build --target train --tag dle-train .    trains, evaluates, exports
#
# docs/container.md says how to run them. --build-arg BASE=… names another Debian 12, --build-arg TORCH_INDEX=… where
# PyTorch is looked for first (the default has builds for the CPU, which spare gigabytes of CUDA; empty: pip's index).
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS python
# Debian keeps no superseded release of a package, so that a pinned one soon fails to install.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/dle/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# The environment /opt/dle has no pip: that of /opt/build installs into it.
FROM python AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/build \
    && python3 -m venv --without-pip /opt/dle
ENV PATH=/opt/build/bin:$PATH \
    PIP_PYTHON=/opt/dle/bin/python \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# What changes seldom and weighs most has a stage and a layer apart from the project's own code: here the project is
# installed without any, for what it depends on.
FROM build AS dependencies
COPY pyproject.toml constraints.txt ./
RUN touch README.md LICENSE

FROM dependencies AS serve-dependencies
RUN pip install --constraint constraints.txt '.[serve,cpu]'

FROM dependencies AS train-dependencies
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# First and apart, for whatever asks for torch later finds it there and does not choose a build of its own; the release
# is pinned, though not in a way that hadolint sees.
# hadolint ignore=DL3013
RUN torch=$(grep '^torch==' constraints.txt) \
    && if [ -z "$TORCH_INDEX" ] \
        || ! pip install --no-deps --retries 0 --timeout 15 --index-url "$TORCH_INDEX" "$torch"; then \
      pip install --no-deps "$torch"; \
    fi \
    && pip install --constraint constraints.txt '.[train,cpu]'

FROM build AS project
COPY . .
RUN pip install --no-deps --prefix /project .

FROM python AS train
LABEL org.opencontainers.image.title="dle-train" \
      org.opencontainers.image.description="Trains, evaluates and exports models" \
      org.opencontainers.image.licenses="Apache-2.0"
# Runs and bundles go to a folder that is mounted on /work, and may belong to any user (--user); what libraries keep
# for themselves goes with the container.
ENV HOME=/tmp \
    USER=dle \
    MPLCONFIGDIR=/tmp/matplotlib
RUN install --directory --owner=10001 --group=10001 /work
COPY --from=train-dependencies /opt/dle /opt/dle
COPY --from=project /project /opt/dle
WORKDIR /work
USER 10001:10001
CMD ["dle-train", "--help"]

FROM python AS serve
LABEL org.opencontainers.image.title="dle-serve" \
      org.opencontainers.image.description="Serves exported models over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"
# The one place that is written to: all else may be mounted read-only.
ENV DLE_HOME=/var/lib/dle \
    HOME=/var/lib/dle \
    TMPDIR=/var/lib/dle
RUN install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/dle \
    && chmod o-w /tmp /var/tmp /run/lock
COPY --from=serve-dependencies /opt/dle /opt/dle
COPY --from=project /project /opt/dle
USER 10001:10001
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:3000/readyz', timeout=4)"]
ENTRYPOINT ["dle-serve"]
CMD ["/bundles", "--host", "0.0.0.0", "--port", "3000"]
