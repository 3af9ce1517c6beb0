# The platform: controller, agent and invoker, the `fallow` command, the load generator. Which of them runs, compose.yaml says.
#   docker build -t fallow/platform .
ARG BASE_IMAGE=python:3.12-slim
FROM ${BASE_IMAGE}

# What the project needs, before its own code: a change of code builds one layer.
WORKDIR /src
COPY pyproject.toml README.md ./
RUN python3 -m venv /opt/fallow \
    && mkdir -p fallow && touch fallow/__init__.py \
    && /opt/fallow/bin/pip install --no-cache-dir --disable-pip-version-check '.[load]' \
    && /opt/fallow/bin/pip uninstall --yes fallow \
    && rm -rf fallow build ./*.egg-info
COPY . .
RUN /opt/fallow/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps .

ENV PATH=/opt/fallow/bin:$PATH LANG=C.UTF-8 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/fallow
CMD ["fallow", "--help"]
