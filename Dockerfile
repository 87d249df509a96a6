# modelwright with all runtimes for a CPU:  docker run --rm -v "$PWD:/work" modelwright run recipes/mine.yaml
# With --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 torch brings CUDA, for GPTQ and AWQ on a GPU.
# With --build-arg EXTRAS=verify,fleet it is an image for the nodes of a fleet.
FROM python:3.11-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=verify
RUN apt-get update && apt-get install -y --no-install-recommends build-essential cmake git \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/modelwright
COPY constraints.txt /src/
RUN /opt/modelwright/bin/pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" torch==2.13.0
COPY . /src
RUN CMAKE_ARGS="-DLLAVA_BUILD=OFF" /opt/modelwright/bin/pip install --no-cache-dir \
    --constraint /src/constraints.txt "/src[$EXTRAS]"

FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 wget && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home modelwright
COPY --from=build /opt/modelwright /opt/modelwright
COPY --from=build /src/recipes /work/recipes
ENV PATH=/opt/modelwright/bin:$PATH
USER modelwright
WORKDIR /work
ENTRYPOINT ["modelwright"]
CMD ["--help"]
