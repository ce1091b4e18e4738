# Sourced by the other scripts: where things are, and how to say what happens.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Downloads and the Python environment; GIMBAL_LAB names another place, which several clones may share.
lab=$(realpath -m "${GIMBAL_LAB:-$root/.lab}")

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# The folder of PostgreSQL's programs: GIMBAL_TEST_PG_BIN, or the newest major that is installed.
pg_bin() {
  local dir
  if [[ -n ${GIMBAL_TEST_PG_BIN:-} ]]; then echo "$GIMBAL_TEST_PG_BIN"; return; fi
  dir=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
  [[ -x $dir/initdb ]] || dir=$(pg_config --bindir 2>/dev/null || true)
  [[ -x $dir/initdb ]] && echo "$dir"
}

# The major version of the Java on the path; 0 without one.
java_major() {
  local version
  version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1) || true
  echo "${version:-0}"
}
