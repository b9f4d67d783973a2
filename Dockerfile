# The turnstile command on a small Python: the worker, and with other arguments every other verb.
ARG PYTHON=3.13
FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY deploy/requirements.lock ./
RUN python -m venv /opt/turnstile \
 && /opt/turnstile/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY contracts contracts
COPY domain domain
COPY handlers handlers
COPY service service
COPY client client
RUN /opt/turnstile/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .

FROM python:${PYTHON}-slim
COPY --from=build /opt/turnstile /opt/turnstile
ENV PATH=/opt/turnstile/bin:$PATH PYTHONUNBUFFERED=1 TURNSTILE_HTTP_HOST=0.0.0.0 TURNSTILE_LOG_FORMAT=json
RUN useradd --system --no-create-home turnstile
USER turnstile
EXPOSE 9464
# SIGTERM drains: turns in flight finish and what is committed goes out.
STOPSIGNAL SIGTERM
ENTRYPOINT ["turnstile"]
CMD ["serve"]
