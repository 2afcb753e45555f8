# Sourced by demo.sh and test.sh: a virtual environment with the package in it, and settings that keep CPU runs fast and offline.
#
#   source scripts/setup.sh [test]
#
# Uses the active virtual environment, otherwise .venv, which is made if need be. Installs only if pyproject.toml has changed since
# the last time. SKIP_SETUP=1 takes the environment as it is, for machines where it is made in another way.

setup_fail() {
  echo "error: $1" >&2
  exit 1
}

# The first Python on the path that is new enough.
setup_find_python() {
  local candidate
  for candidate in python3 python python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

setup_environment() {
  local found
  if [[ -n "${VIRTUAL_ENV:-}" || (-n "${CONDA_PREFIX:-}" && "${CONDA_DEFAULT_ENV:-base}" != base) ]]; then
    python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
      || setup_fail "Python 3.11 or newer is needed, the active environment has $(python --version 2>&1)"
    return
  fi
  if [[ ! -f .venv/bin/activate ]]; then
    found=$(setup_find_python) || setup_fail "Python 3.11 or newer is needed, python3 is $(python3 --version 2>&1)"
    echo "making .venv with $("$found" --version)"
    "$found" -m venv .venv >/dev/null 2>&1 || {
      rm -rf .venv
      setup_fail "$found cannot make virtual environments; install its venv module (Debian: apt install python3-venv)"
    }
  fi
  source .venv/bin/activate
}

setup_install() {
  local extras=$1 stamps wanted
  stamps=$(python -c 'import sys; print(sys.prefix)')
  wanted="$(sha256sum pyproject.toml | cut -d' ' -f1) $PWD"
  # The test extras include everything else.
  if [[ "$(cat "$stamps/.vl_absvit-test" 2>/dev/null)" == "$wanted" ]]; then return; fi
  if [[ "$extras" == base && "$(cat "$stamps/.vl_absvit-base" 2>/dev/null)" == "$wanted" ]]; then return; fi
  echo "installing the package and what it needs into $stamps (several GB the first time)"
  if [[ "$extras" == test ]]; then
    python -m pip install --disable-pip-version-check -e '.[test]' || setup_fail "the installation failed; see above"
  else
    python -m pip install --disable-pip-version-check -e . || setup_fail "the installation failed; see above"
  fi
  echo "$wanted" >"$stamps/.vl_absvit-$extras"
}

if [[ -z "${SKIP_SETUP:-}" ]]; then
  setup_environment
  setup_install "${1:-base}"
fi

# Threads that wait for others sleep instead of spinning: with fewer free cores than threads, spinning makes all of them crawl.
export OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0
# Freed memory is kept for the next tensor instead of being returned to the system and fetched anew.
export MALLOC_MMAP_THRESHOLD_=8589934592 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456
export TOKENIZERS_PARALLELISM=false
# Demo and tests fetch nothing.
export HF_HUB_OFFLINE=1
