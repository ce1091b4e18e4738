#!/usr/bin/env bash
# Private servers for tests and the demo: free ports of 127.0.0.1, all data in a temporary directory, gone at the end.
#
#   scripts/lab.sh run WHAT…                start pg, kafka or registry, print the environment, then `ready`;
#                                           stop when standard input ends, so that nothing outlives who holds it;
#                                           it takes lines: `kill kafka`, `again kafka` (same port, same data),
#                                           `pause kafka`, `resume kafka`, and answers `ready` to each
#   scripts/lab.sh start [--for PID] WHAT…  the same in the background, for as long as process PID (the caller) lives
#   scripts/lab.sh env                      print the environment of what `start` started once more
#   scripts/lab.sh stop                     stop it ($GIMBAL_LAB_RUN is in that environment)
#
# In a shell:  eval "$(scripts/lab.sh start --for $$ pg kafka)"
#
# Settings: GIMBAL_LAB_PG_SETTINGS (lines for postgresql.conf), GIMBAL_TEST_PG_BIN (another major's programs),
# GIMBAL_LAB_KAFKA_SETTINGS (lines for server.properties), GIMBAL_LAB_KAFKA_ADVERTISED (host:port of a proxy in front),
# GIMBAL_LAB_JAVA_OPTIONS.
set -euo pipefail
source "$(dirname "$0")/common.sh"

readonly READY_SECONDS=90
readonly KAFKA_CLUSTER=gimbal-lab-kafka-testw # any 16 bytes in base64

main() {
  local command=${1:-}
  shift || true
  case $command in
    run) run "$@" ;;
    start) start "$@" ;;
    supervise) supervise "$@" ;;
    env) cat "$(run_dir)/environment" ;;
    stop) stop ;;
    *) die "say run, start, env or stop" ;;
  esac
}

# ---- run ------------------------------------------------------------------------------------------------------------

run() {
  local what command
  [[ $# -gt 0 ]] || die "say what to start: pg, kafka, registry"
  for what in "$@"; do
    [[ $what =~ ^(pg|kafka|registry)$ ]] || die "\`$what\` is not one of pg, kafka, registry"
  done
  work=$(mktemp -d "${TMPDIR:-/tmp}/gimbal-lab.XXXXXX")
  chmod 755 "$work" # PostgreSQL's user must reach its folder
  cd "$work"
  trap stop_servers EXIT
  trap 'exit 143' TERM INT HUP
  for what in "$@"; do "launch_$what"; done
  for what in "$@"; do "await_$what"; done
  echo ready
  while read -r command what; do obey "$command" "$what" && echo ready; done
}

# obey COMMAND NAME: what a test does to a server that it started.
obey() {
  case $1 in
    kill) kill -KILL "${pids[$2]}"; wait "${pids[$2]}" 2>/dev/null || true ;;
    again) "start_$2"; "await_$2" ;;
    pause) kill -STOP "${pids[$2]}" ;;
    resume) kill -CONT "${pids[$2]}" ;;
    *) die "\`$1\` is not one of kill, again, pause, resume" ;;
  esac
}

stop_servers() {
  # Nothing here is worth a clean shutdown. PostgreSQL is asked through its folder: a test may have restarted it.
  if [[ -d $work/pg ]]; then as_postgres "$bin/pg_ctl" -D "$work/pg" -m immediate stop >/dev/null 2>&1 || true; fi
  ((${#pids[@]} == 0)) || { kill -KILL "${pids[@]}"; wait "${pids[@]}"; } 2>/dev/null || true
  cd / && rm -rf "$work"
}

# in_background NAME SIGNAL COMMAND…: the process gets SIGNAL when this script dies, even if the script is killed.
in_background() {
  local name=$1 privileges=(--pdeathsig "$2")
  shift 2
  if [[ $name == pg && $EUID == 0 ]]; then privileges+=(--reuid postgres --regid postgres --init-groups); fi
  setpriv "${privileges[@]}" "$@" </dev/null >"$work/$name.log" 2>&1 &
  pids[$name]=$!
}
declare -A pids=()

# until_ready NAME COMMAND…: polls the command; shows the log's end if the server died or takes too long.
until_ready() {
  local name=$1 end=$((SECONDS + READY_SECONDS))
  shift
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS > end)) || ! kill -0 "${pids[$name]}" 2>/dev/null; then
      tail -n 30 "$work/$name.log" >&2
      die "$name did not become ready"
    fi
    sleep 0.1
  done
}

# A port that nobody listens on, below the range that the kernel hands to outgoing connections.
free_port() {
  local port
  while port=$((10000 + SRANDOM % 22000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port"
}

# ---- PostgreSQL -----------------------------------------------------------------------------------------------------

# The server refuses to run as root.
as_postgres() {
  if ((EUID == 0)); then runuser -u postgres -- "$@"; else "$@"; fi
}

launch_pg() {
  bin=$(pg_bin) && [[ -x $bin/initdb ]] || die "PostgreSQL was not found: run scripts/setup.sh pg"
  pg_port=$(free_port)
  mkdir -m 700 "$work/pg"
  if ((EUID == 0)); then
    id postgres >/dev/null 2>&1 || die "PostgreSQL does not run as root, and there is no user \`postgres\` to run it as"
    chown postgres "$work/pg"
  fi
  as_postgres "$bin/initdb" -D "$work/pg" -A trust -U postgres -E UTF8 --locale=C.UTF-8 --no-sync >"$work/initdb.log" 2>&1 \
    || { cat "$work/initdb.log" >&2; die "initdb failed"; }
  cat >>"$work/pg/postgresql.conf" <<END
port = $pg_port
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
wal_level = logical
max_replication_slots = 50
max_wal_senders = 50
max_connections = 150
shared_buffers = 64MB
fsync = off
log_min_messages = warning
log_line_prefix = '%m [%p] %q%d %a '
${GIMBAL_LAB_PG_SETTINGS:-}
END
  in_background pg QUIT "$bin/postgres" -D "$work/pg"
}

await_pg() {
  # Not every build of the server has this program; it asks any major.
  local asks=$bin/pg_isready
  [[ -x $asks ]] || asks=$(GIMBAL_TEST_PG_BIN='' pg_bin)/pg_isready
  until_ready pg "$asks" -q -h 127.0.0.1 -p "$pg_port" -U postgres
  echo "GIMBAL_TEST_PG_BIN=$bin"
  echo "GIMBAL_TEST_PG_DATA=$work/pg"
  echo "GIMBAL_TEST_PG=postgresql://postgres@127.0.0.1:$pg_port/postgres"
}

# ---- Kafka ----------------------------------------------------------------------------------------------------------

launch_kafka() {
  local controller java
  [[ -f $lab/kafka/pom.xml ]] || die "Kafka was not found in $lab: run scripts/setup.sh kafka"
  kafka=127.0.0.1:$(free_port)
  controller=127.0.0.1:$(free_port)
  cat >server.properties <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@$controller
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,CLIENT:PLAINTEXT
listeners=CLIENT://$kafka,CONTROLLER://$controller
advertised.listeners=CLIENT://${GIMBAL_LAB_KAFKA_ADVERTISED:-$kafka}
inter.broker.listener.name=CLIENT
log.dirs=$work/kafka
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
group.initial.rebalance.delay.ms=0
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
${GIMBAL_LAB_KAFKA_SETTINGS:-}
END
  read -ra java <<<"java ${GIMBAL_LAB_JAVA_OPTIONS:--Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1}"
  "${java[@]}" -cp "$lab/kafka/*" kafka.tools.StorageTool format -t "$KAFKA_CLUSTER" -c server.properties >format.log 2>&1 \
    || { tail -n 30 format.log >&2; die "formatting Kafka's storage failed"; }
  start_kafka
}

start_kafka() {
  local java
  read -ra java <<<"java ${GIMBAL_LAB_JAVA_OPTIONS:--Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1}"
  in_background kafka KILL "${java[@]}" -cp "$lab/kafka/*" kafka.Kafka server.properties
}

await_kafka() {
  until_ready kafka grep -q 'Kafka Server started' "$work/kafka.log"
  echo "GIMBAL_TEST_KAFKA=$kafka"
}

# ---- schema registry ------------------------------------------------------------------------------------------------

launch_registry() {
  local jar java
  jar=$(find "$lab/registry" -name '*-runner.jar' 2>/dev/null | head -n 1)
  [[ -n $jar ]] || die "the registry was not found in $lab: run scripts/setup.sh registry"
  registry=127.0.0.1:$(free_port)
  read -ra java <<<"java ${GIMBAL_LAB_JAVA_OPTIONS:--Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1}"
  in_background registry KILL "${java[@]}" -Dquarkus.http.host=127.0.0.1 "-Dquarkus.http.port=${registry#*:}" -jar "$jar"
}

await_registry() {
  local url=http://$registry/apis/ccompat/v7
  until_ready registry curl -fsS --noproxy '*' --max-time 2 "$url/subjects"
  echo "GIMBAL_TEST_REGISTRY=$url"
}

# ---- in the background ----------------------------------------------------------------------------------------------

start() {
  local owner=$PPID dir
  if [[ ${1:-} == --for ]]; then owner=$2; shift 2; fi
  ((owner > 1)) || die "the caller is gone already: say who the servers are for with --for PID"
  dir=$(mktemp -d "${TMPDIR:-/tmp}/gimbal-lab-run.XXXXXX")
  setsid bash "${BASH_SOURCE[0]}" supervise "$owner" "$dir" "$@" </dev/null >/dev/null 2>"$dir/log" &
  until grep -qs '^ready' "$dir/output"; do
    if ! kill -0 $! 2>/dev/null; then cat "$dir/log" >&2; rm -rf "$dir"; exit 1; fi
    sleep 0.1
  done
  { sed '/^ready/d; s/^/export /' "$dir/output"; echo "export GIMBAL_LAB_RUN=$dir"; } | tee "$dir/environment"
}

# supervise PID DIR WHAT…: holds the input of `run` open while PID lives.
supervise() {
  local owner=$1 dir=$2 ended=0
  shift 2
  bash "${BASH_SOURCE[0]}" run "$@" >"$dir/output" \
    < <(echo "$BASHPID" >"$dir/holder"; while alive "$owner"; do sleep 0.2 >/dev/null; done) || ended=$?
  kill "$(cat "$dir/holder")" 2>/dev/null || true
  ((ended == 0)) || exit "$ended" # `start` still wants the log
  rm -rf "$dir"
}

# A killed process whose parent never asks for it stays a zombie: that is dead too.
alive() { [[ -r /proc/$1/stat && $(cat "/proc/$1/stat" 2>/dev/null) != *') Z '* ]]; }

run_dir() {
  [[ -d ${GIMBAL_LAB_RUN:-} ]] || die "nothing was started here: GIMBAL_LAB_RUN is not set"
  echo "$GIMBAL_LAB_RUN"
}

stop() {
  local dir end=$((SECONDS + READY_SECONDS))
  dir=$(run_dir)
  kill "$(cat "$dir/holder")" 2>/dev/null || true
  while [[ -d $dir ]]; do
    ((SECONDS < end)) || die "the servers of $dir did not stop"
    sleep 0.1
  done
}

main "$@"
