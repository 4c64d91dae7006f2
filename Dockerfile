# zitcache without torch: it saves, restores and verifies; the proof by drawing runs where the GPU software is.
#   docker build -t zitcache .
#   docker run --rm -v model_cache:/cache -v zitcache_repository:/repository zitcache backup --init
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY zitcache ./zitcache
RUN python3 -m venv /opt/zitcache && /opt/zitcache/bin/pip install --no-cache-dir .

FROM ${BASE}
# A fixed id, so that what one container writes, the next one and the application can use.
ARG UID=1000
ARG GID=1000
RUN groupadd --gid "${GID}" zitcache \
    && useradd --uid "${UID}" --gid "${GID}" --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin zitcache \
    # A fresh named volume takes its owner from the folder that it is mounted on.
    && install -d -o "${UID}" -g "${GID}" /cache /repository
COPY --from=build /opt/zitcache /opt/zitcache
COPY --chmod=755 deploy/docker/restore-if-needed deploy/docker/nightly /usr/local/bin/
# HOME and XDG_CACHE_HOME: the root file system may be read-only; what may be written lies in the volumes and /tmp.
ENV PATH=/opt/zitcache/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/.cache \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MODELSCOPE_CACHE=/cache \
    HF_HOME=/cache \
    ZITCACHE_CACHE=/cache \
    ZITCACHE_REPO=/repository
USER ${UID}:${GID}
WORKDIR /cache
VOLUME ["/cache", "/repository"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["zitcache"]
CMD ["--help"]
