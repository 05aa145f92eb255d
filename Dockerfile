# docker build -t cp2 . && docker run --gpus all --ipc=host -v $PWD:/work cp2 snakemake --cores all
FROM python:3.11-slim-bookworm
COPY . /src
RUN pip install --no-cache-dir --no-deps -r /src/requirements.lock && pip install --no-deps /src && rm -rf /src
WORKDIR /work
CMD ["cp2", "--help"]
