# SPDX-License-Identifier: Apache-2.0
# The same set-up as `make setup`, in a container. Not built by our CI. Vivado is mounted, never baked in:
#   docker build -t bitward .
#   docker run --rm -v /tools/Xilinx:/tools/Xilinx:ro -v "$PWD/runs:/bitward/runs" bitward make demo
# and, for `make bitstream BOARD=kv260`, put Vivado's bin folder on PATH with -e PATH=/tools/Xilinx/Vivado/VERSION/bin:...
FROM python:3.11-slim-bookworm
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ make git tcl chromium \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /bitward
COPY . .
RUN make setup
CMD ["make", "demo"]
