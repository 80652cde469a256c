#!/bin/sh
# For a machine with a GPU: everything that only a GPU can show, within ten minutes.
#
#     pip install -e '.[gpu,test]'        # or gpu-cuda13; torch and jax for the bench's peers
#     sh tests/gpu/on_device.sh [FOLDER]  # results of the bench go to bench/results/, or FOLDER too
#
# The conformance suite on the device, by as many processes as there are processors (30 s on 16 of
# them, at most 200 s), products, attention and CUDA graphs (80 s), then the bench (300 s, one
# round). Each part runs whatever became of those before it.
cd "$(dirname "$0")/../.." || exit 1
python=${PYTHON:-python}
status=0

echo "== conformance"
timeout 200 "$python" -m weft conformance --device gpu --jobs "$(nproc)" || status=1
echo "== products, attention, graphs"
timeout 80 "$python" -m tests.gpu.on_device || status=1
echo "== bench"
timeout 300 "$python" -m bench --gpu --quick || status=1
[ -z "$1" ] || cp bench/results/*.json "$1"
exit $status
