#!/usr/bin/env bash
# What a machine with a GPU, torch and Lightning, but without network, needs for benchmarks/gpu.py.
#
#   bash benchmarks/gpu_prepare.sh             here: packs wheels and data into .gpu/ (ignored by git, under 45 MB)
#   bash benchmarks/gpu_prepare.sh --unpack    there: installs them beside that machine's packages, into .gpu/ too
#   source .gpu/env.sh                         there: before python benchmarks/gpu.py --part tests --out FOLDER
#
# RETABLE_DATA names the folder of the data; PYTHON a Python with pip (default: .venv/bin/python, else python3);
# TARGET that machine's version of Python (default: 3.12).
set -euo pipefail
cd "$(dirname "$0")/.."
folder=.gpu
limit=45000000 # bytes
target=${TARGET:-3.12}
python=${PYTHON:-$(test -x .venv/bin/python && echo .venv/bin/python || echo python3)}

unpack() {
  # Without dependencies: torch and Lightning are there, and nothing else can be fetched.
  "$python" -m pip install --quiet --no-index --no-deps --disable-pip-version-check --target $folder/site $folder/wheels/*.whl
  "$python" - $folder/data.tar.xz $folder/data <<'P'
import sys, tarfile
tarfile.open(sys.argv[1]).extractall(sys.argv[2], filter="data")
P
  cat > $folder/env.sh <<S
export PYTHONPATH=$PWD/src:$PWD/$folder/site\${PYTHONPATH:+:\$PYTHONPATH} RETABLE_DATA=$PWD/$folder/data RETABLE_CACHE=$PWD/$folder/cache
S
  echo "unpacked: source $folder/env.sh"
}

pack() {
  data=${RETABLE_DATA:?names the folder of the data}
  rm -rf $folder
  mkdir -p $folder/wheels
  # What such machines have not, for their Python, which need not be this one's.
  pip=("$python" -m pip --quiet --disable-pip-version-check)
  "${pip[@]}" download --no-deps --only-binary :all: --python-version "$target" --implementation cp --abi "cp${target/./}" --abi abi3 \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --dest $folder/wheels \
    'hydra-core>=1.3.2,<1.4' 'omegaconf>=2.3,<2.4' 'segmentation-models-pytorch>=0.5' 'nibabel>=5.3' 'pydicom>=3.0' 'pycocotools>=2.0.8'
  "${pip[@]}" wheel --no-deps --wheel-dir $folder/wheels 'antlr4-python3-runtime==4.9.*' # of omegaconf; there is no wheel of it
  # In one archive of files that are not compressed by themselves, which is 2 MB smaller than MNIST's own .gz files.
  "$python" - "$data" $folder/data.tar.xz <<'P'
import gzip, io, pathlib, sys, tarfile
root = pathlib.Path(sys.argv[1])
digits = sorted((root / "mnist/MNIST/raw").glob("*ubyte*"))
batches = [root / "cifar10/cifar-10-batches-py" / name for name in ("data_batch_1", "batches.meta")]
with tarfile.open(sys.argv[2], "w:xz", preset=6) as archive:
    for path in [*digits, *batches, *sorted(p for p in (root / "warwick").rglob("*") if p.is_file())]:
        content, name = path.read_bytes(), str(path.relative_to(root))
        if name.endswith(".gz"):
            content, name = gzip.decompress(content), name.removesuffix(".gz")
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
P
  size=$(du -sb $folder | cut -f1)
  echo "packed: $folder, $((size / 1000000)) MB"
  if ((size > limit)); then
    echo "that is more than $((limit / 1000000)) MB" >&2
    exit 1
  fi
}

case "${1:-}" in
  "") pack ;;
  --unpack) unpack ;;
  *)
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
