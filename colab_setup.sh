#!/usr/bin/env bash
# Installs what the notebooks need into the Python that runs them, on Colab, on Kaggle or on a machine of your own:
#
#   bash colab_setup.sh              a second run finds nothing to do, and takes seconds
#   bash colab_setup.sh --dry-run    only shows what would be installed; other options go to uv (or pip) too
#
# PYTHON names the interpreter and REQUIREMENTS the list, where the choices below do not suit. LOADED, from the
# notebook's first cell, names the modules that its kernel has imported: where one of them is replaced, a restart
# is needed, and the exit status is 3. What a runtime brings, and its packages were built against, is frozen at
# the version that is there. tokenizers and huggingface-hub are not: transformers' pin names the ones it needs.
set -euo pipefail
cd "$(dirname "$0")"

FROZEN="torch torchvision torchaudio triton numpy scipy pandas pyarrow pillow protobuf fsspec requests openai
pydantic matplotlib ipykernel ipython jupyter-client traitlets tornado"

PYTHON=${PYTHON:-$(command -v python3)}
unset UV_CONSTRAINT UV_BUILD_CONSTRAINT # Colab sets them, once to files that are not there
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

stop() {
    echo "colab_setup.sh stopped. $1" >&2
    exit 1
}

if [ -n "${COLAB_RELEASE_TAG:-}" ]; then
    where=Colab restart="Runtime > Restart session" internet="check your connection"
elif [ -n "${KAGGLE_KERNEL_RUN_TYPE:-}" ]; then
    where=Kaggle restart="Run > Restart & clear cell outputs" internet="open Settings > Turn on internet"
else
    where="this machine" restart="Kernel > Restart" internet="check your connection"
fi
# Colab and Kaggle bring a torch for GPUs even where none is attached, and so do GPU machines of your own.
if [ -z "${REQUIREMENTS:-}" ]; then
    if [ "$where" != "this machine" ] || nvidia-smi -L >/dev/null 2>&1; then
        REQUIREMENTS=requirements.txt
    else
        REQUIREMENTS=requirements-cpu.txt
    fi
fi
# --python comes before UV_SYSTEM_PYTHON, which Kaggle sets.
if command -v uv >/dev/null; then
    install=(uv pip install --python "$PYTHON")
elif "$PYTHON" -m uv --version >/dev/null 2>&1; then
    install=("$PYTHON" -m uv pip install --python "$PYTHON")
else
    install=("$PYTHON" -m pip install --disable-pip-version-check)
fi

installed() { # name==version, a line a package
    "$PYTHON" -c '
import re
from importlib.metadata import distributions
found = {re.sub(r"[-_.]+", "-", d.name).lower(): d.version for d in reversed(list(distributions())) if d.name}
for name, version in sorted(found.items()):
    print(f"{name}=={version}")'
}

installed >"$scratch/before"
free=$(df --output=avail -BG "$("$PYTHON" -c 'import sys; print(sys.prefix)')" | tail -1 | tr -dc 0-9)
if [ "$free" -lt 5 ] && ! grep -q "^unsloth==" "$scratch/before"; then
    stop "$free GB of disk are left, and the packages may need 5: free some, or start a new runtime."
fi
# A frozen package that is absent may only come at the version that the tests run with.
for name in $FROZEN; do
    grep -x "$name==.*" "$scratch/before" || grep -ix "${name//-/[-_]}==.*" requirements-cpu.txt || true
done >"$scratch/frozen.txt"

echo "$where, $("$PYTHON" --version), $REQUIREMENTS, $(wc -l <"$scratch/frozen.txt") packages frozen"
if ! "${install[@]}" -c "$scratch/frozen.txt" -r "$REQUIREMENTS" "$@" 2>&1 | tee "$scratch/log"; then
    if grep -qiE "failed to (fetch|establish)" "$scratch/log"; then
        stop "The packages could not be fetched: $internet, and run this again."
    fi
    in_the_way=$(grep -owFf "$scratch/frozen.txt" "$scratch/log" | sort -u | paste -sd, | sed 's/,/, /g' || true)
    stop "Nothing was changed, because ${in_the_way:-something that the lines above name} is in the way of the pins \
in $REQUIREMENTS: take the newest release of this repository, whose pins suit today's images (%env GEMMA_REF=main in \
a cell at the top, then run all again)."
fi
"${install[@]}" --no-deps -r requirements-unsloth.txt "$@" # last, and alone: see there

installed >"$scratch/after"
"$PYTHON" - "$scratch/before" "$scratch/after" "$FROZEN" "$restart" <<'END'
import os, sys

before, after = (dict(line.strip().split("==") for line in open(path)) for path in sys.argv[1:3])
frozen, restart = sys.argv[3].split(), sys.argv[4]
changed = [name for name in before if after.get(name, before[name]) != before[name]]
print("Added:", ", ".join(f"{name} {after[name]}" for name in after if name not in before) or "nothing")
print("Changed:", ", ".join(f"{name} {before[name]} -> {after[name]}" for name in changed) or "nothing")
moved = [name for name in changed if name in frozen]
if moved:
    sys.exit(f"colab_setup.sh stopped. {', '.join(moved)} was replaced although it is frozen: start a new runtime.")
loaded = [name for name in changed if name.replace("-", "_") in os.environ.get("LOADED", "").split()]
if loaded:
    print(f"A restart is needed: this kernel still has the old {', '.join(loaded)}. {restart}, then run all again.")
    sys.exit(3)
END
