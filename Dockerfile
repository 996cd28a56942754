# docker build -t yeoul . && docker run -p 8000:8000 -v yeoul:/cache yeoul org/name --api-key SECRET
# PrivateDevices and friends are the runtime's; --read-only --tmpfs /tmp works.
FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ cmake ninja-build && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml constraints.txt CMakeLists.txt README.md LICENSE ./
COPY yeoul yeoul
RUN python -m venv /opt/yeoul \
    && /opt/yeoul/bin/pip install --no-cache-dir --constraint constraints.txt \
        --extra-index-url https://download.pytorch.org/whl/cpu .

FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends tini libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home yeoul && install -d -o yeoul -g yeoul /cache
COPY --from=build /opt/yeoul /opt/yeoul
ENV PATH=/opt/yeoul/bin:$PATH XDG_CACHE_HOME=/cache YEOUL_HOST=0.0.0.0 PYTHONDONTWRITEBYTECODE=1
USER 10001
VOLUME /cache
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "yeoul", "serve"]
