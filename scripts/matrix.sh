#!/usr/bin/env bash
# Runs the tests that depend on the server on several majors of PostgreSQL, and prints how each module went on each.
#
#   scripts/matrix.sh 14 16 17 18
#
# A major that the system has is run with the system's programs, another one with those that scripts/setup.sh fetched:
# they are the server alone, and a test that needs a client of its major is counted as `not run`, and listed with what it
# needs. Ends with 1 if a test failed. The output of each major's run is kept in $GIMBAL_LAB (or .lab).
set -euo pipefail
source "$(dirname "$0")/common.sh"

# As many as show that each kind of restart works; `make test` has more.
readonly KILLS=6
# What runs against PostgreSQL alone. A broker or a registry does not care which major the source is.
readonly TESTS=(
  stream:: catalog:: connection:: check:: projection::live projection::zones pairs:: anchor:: repair:: doctor:: statements::
  crash::files crash::aside crash::lifecycle crash::restart crash::faults::postgresql proofs::p4 proofs::p7
)
readonly WITHOUT=(--skip kafka --skip doctor::cluster)

main() {
  local major bins=() failed=0
  [[ $# -gt 0 ]] || die "say which majors, such as 14 16 17 18"
  for major in "$@"; do bins+=("$(programs "$major")"); done
  (cd "$root" && cargo test --locked --test suite --no-run)
  for major in "$@"; do
    run "$major" "${bins[0]}" || failed=1
    bins=("${bins[@]:1}")
  done
  table "$@"
  return "$failed"
}

# programs MAJOR: the folder of its programs.
programs() {
  local system
  system=$(pg_bin) || true
  if [[ -n $system && $("$system/postgres" --version) == *" $1."* ]]; then echo "$system"; return; fi
  "$root/scripts/setup.sh" "pg$1" || exit
  echo "$lab/pg$1/bin"
}

# run MAJOR BIN: all of the tests.
run() {
  local log=$lab/matrix-$1.log ended=0 start=$SECONDS
  say "PostgreSQL $("$2/postgres" --version | cut -d' ' -f3) …"
  (cd "$root" && GIMBAL_TEST_MATRIX=1 GIMBAL_TEST_PG_BIN=$2 GIMBAL_KILLS=$KILLS RUST_BACKTRACE=0 \
    cargo test --locked --test suite -- --show-output "${WITHOUT[@]}" "${TESTS[@]}") >"$log" 2>&1 || ended=$?
  say "PostgreSQL $1: $(grep '^test result' "$log" || echo "nothing ran") ($((SECONDS - start)) s, $log)"
  return "$ended"
}

# table MAJOR…: a row for each module, a column for each major; then what failed and what did not run.
table() {
  local major
  for major in "$@"; do sed "s/^/$major /" "$lab/matrix-$major.log"; done | awk -v majors="$*" '
    $2 == "test" && $4 == "..." {
      split($3, path, "::")
      module = path[1]
      if (!(module in seen)) { seen[module] = ++modules; name[modules] = module }
      count[module, $1, $NF == "ok" ? "ok" : "failed"]++
      if ($NF != "ok") notes[++noted] = "failed on " $1 ": " $3
    }
    $2 == "not" && $3 == "run:" {
      split($4, path, "::")
      count[path[1], $1, "missing"]++
      note = $0
      sub(/^[0-9]+ not run: /, "", note)
      notes[++noted] = "not run on " $1 ": " note
    }
    END {
      columns = split(majors, major, " ")
      printf "\n%-12s", "module"
      for (i = 1; i <= columns; i++) printf "%-24s", "PostgreSQL " major[i]
      for (row = 1; row <= modules; row++) {
        printf "\n%-12s", name[row]
        for (i = 1; i <= columns; i++) {
          missing = count[name[row], major[i], "missing"] + 0
          cell = count[name[row], major[i], "ok"] - missing " ok"
          if (count[name[row], major[i], "failed"]) cell = cell ", " count[name[row], major[i], "failed"] " failed"
          if (missing) cell = cell ", " missing " not run"
          printf "%-24s", cell
        }
      }
      printf "\n\n"
      for (i = 1; i <= noted; i++) print notes[i]
    }'
}

main "$@"
