# edgekit for CI, on a CPU: docker build -t edgekit . && docker run --rm -v "$PWD:/work" -u "$(id -u)" edgekit run mnist
# The base is pinned by tag; pin it by digest in your own copy (docker buildx imagetools inspect python:3.11-slim-bookworm).
FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
ARG EXTRAS=onnx,mnist
COPY constraints.txt /build/
COPY --from=build /wheels /build/wheels
RUN for wheel in /build/wheels/*.whl; do \
        pip install --no-cache-dir -c /build/constraints.txt \
            --extra-index-url https://download.pytorch.org/whl/cpu "${wheel}[${EXTRAS}]"; \
    done && useradd --uid 1000 --create-home edgekit
USER 1000
WORKDIR /work
# with another user than its own, as -u gives, there is no home to write to
ENV XDG_CACHE_HOME=/tmp/cache XDG_STATE_HOME=/tmp/state
ENTRYPOINT ["edgekit"]
CMD ["--help"]
