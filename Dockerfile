# The store in a container: docker build -t kv-store .
# docs/operations.md, "In a container", says how to run it. Licence: LICENSE, which is in the image.

FROM python:3.12-slim AS packages
WORKDIR /build
COPY requirements.txt constraints.txt ./
# matplotlib draws the plots of experiments, which the image is not for: half of its size.
RUN sed -i '/^matplotlib/d' requirements.txt
RUN python -m venv /venv
RUN /venv/bin/pip install --quiet --no-cache-dir --no-compile --disable-pip-version-check -r requirements.txt

FROM python:3.12-slim
COPY --from=packages /venv /venv
COPY . /app
RUN /venv/bin/python -m compileall -q /app
RUN install -d -m 700 -o 10001 -g 10001 /data
WORKDIR /data
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ENV KV_HOST=0.0.0.0 KV_PORT=5000 KV_DATA_DIR=/data/nodes
USER 10001:10001
VOLUME /data
EXPOSE 5000
# Without KV_API_TOKEN it does not start: it listens to other machines.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ['KV_PORT']), timeout=3); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "/app/run.py"]
CMD ["serve"]
