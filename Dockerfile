# docker build -t cp2 . && docker run --gpus all --ipc=host -v $PWD:/work cp2 snakemake --cores all
FROM python:3.11-slim-bookworm
COPY . /src
RUN pip install --no-cache-dir --constraint /src/requirements.lock "/src[all]" && rm -rf /src
WORKDIR /work
CMD ["cp2", "--help"]
