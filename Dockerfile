# Two images of one project:
#
#   docker build --target serve --tag dle-serve .    answers requests; has no PyTorch, no compiler and no pip
#   docker build --target train --tag dle-train .    trains, evaluates, exports
#
# docs/container.md says how to run them. --build-arg BASE=… names another Debian 12. --build-arg TORCH_INDEX=… names the
# index that is tried first for PyTorch: the default has builds for the CPU, which saves gigabytes of CUDA packages; an
# empty value means pip's own index.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS python
# Debian deletes superseded versions of a package, so a pinned version soon fails to install.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/dle/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# The environment /opt/dle has no pip. The pip of /opt/build installs into it.
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

# The dependencies change seldom and are large, so they have a layer of their own. The project is installed here without
# its code, only for its dependencies.
FROM build AS dependencies
COPY pyproject.toml constraints.txt ./
RUN touch README.md LICENSE

FROM dependencies AS serve-dependencies
RUN pip install --constraint constraints.txt '.[serve,excel,cpu]'

FROM dependencies AS train-dependencies
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# torch comes first, so that packages that need torch find it and install no other build. Its version is pinned by
# constraints.txt, which hadolint does not see.
# hadolint ignore=DL3013
RUN torch=$(grep '^torch==' constraints.txt) \
    && if [ -z "$TORCH_INDEX" ] \
        || ! pip install --no-deps --retries 0 --timeout 15 --index-url "$TORCH_INDEX" "$torch"; then \
      pip install --no-deps "$torch"; \
    fi \
    && pip install --constraint constraints.txt '.[train,excel,cpu]'

FROM build AS project
COPY . .
RUN pip install --no-deps --prefix /project .

FROM python AS train
LABEL org.opencontainers.image.title="dle-train" \
      org.opencontainers.image.description="Trains, evaluates and exports models" \
      org.opencontainers.image.licenses="Apache-2.0"
# Runs and bundles go to the folder mounted on /work, and may belong to any user (--user). Caches of libraries are
# deleted with the container.
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
# The only folder that is written to. Everything else can be mounted read-only.
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
