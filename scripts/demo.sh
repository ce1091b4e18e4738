#!/usr/bin/env bash
# The demo: installs what is missing, builds, and plays. Everything that it starts and writes is gone at the end.
#
#   scripts/demo.sh [OPTION…]              files and the embedded registry
#   SINK=kafka scripts/demo.sh [OPTION…]   a real Kafka and a real schema registry
#
# Options go to `demo play`: --quick, --seed N.
set -euo pipefail
source "$(dirname "$0")/common.sh"

sink=${SINK:-files}
case $sink in
  files) servers=(pg) ;;
  kafka) servers=(pg kafka registry) ;;
  *) die "SINK is files or kafka, not \`$sink\`" ;;
esac

"$root/scripts/setup.sh" build "${servers[@]}"
cd "$root"
say "building"
cargo build --release --locked --bin gimbal --example demo
exec "${CARGO_TARGET_DIR:-target}/release/examples/demo" play --sink "$sink" "$@"
