# The turnstile command on a small Python: the worker, and with other arguments every other verb.
ARG PYTHON=3.13
FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY deploy/requirements.lock ./
# Wheels alone: what has none for this Python fails here, and not in a compiler.
RUN python -m venv --without-pip /opt/turnstile \
 && pip --python /opt/turnstile/bin/python install --no-cache-dir --disable-pip-version-check \
      --only-binary :all: --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY contracts contracts
COPY domain domain
COPY handlers handlers
COPY service service
COPY client client
RUN pip --python /opt/turnstile/bin/python install --no-cache-dir --disable-pip-version-check \
      --no-deps --no-build-isolation .

FROM python:${PYTHON}-slim
# A number, so that Kubernetes can see that it is not root.
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin turnstile
COPY --from=build /opt/turnstile /opt/turnstile
ENV PATH=/opt/turnstile/bin:$PATH PYTHONUNBUFFERED=1 TURNSTILE_HTTP_HOST=0.0.0.0 TURNSTILE_LOG_FORMAT=json
USER 10001:10001
WORKDIR /tmp
EXPOSE 9464
# Lives, not ready: what replaces an unhealthy container must not replace one that waits for its database.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD python -c \
  "from urllib.request import urlopen; urlopen('http://127.0.0.1:${TURNSTILE_HTTP_PORT:-9464}/health/live', timeout=3)"
# SIGTERM drains: turns in flight finish and what is committed goes out.
STOPSIGNAL SIGTERM
ENTRYPOINT ["turnstile"]
CMD ["serve"]
