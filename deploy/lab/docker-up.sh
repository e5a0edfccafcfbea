#!/usr/bin/env bash
# Makes a Docker engine answer on a machine that may not have one. Leaves alone what already runs.
#   docker-up.sh up    exit 0: `docker info` answers; exit 75: no engine can be had here, the reason is on stderr
#   docker-up.sh down  stops the daemon that `up` started, by its pid, and nothing else
set -euo pipefail
run=${DOCKER_LAB_DIR:-/run/continuum-lab}
sock=${DOCKER_LAB_SOCK:-/var/run/docker.sock}
export DOCKER_HOST=unix://$sock
ours=$run/dockerd.pid

no() { echo "docker-up: $*" >&2; exit 75; }
alive() { [ -s "$ours" ] && [ "$(tr '\0' '\n' < "/proc/$(cat "$ours")/cmdline" 2>/dev/null | head -1 | xargs -r basename)" = dockerd ]; }

install_engine() {
  command -v apt-get >/dev/null || no 'no dockerd and no apt-get'
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io iptables iproute2; } \
    > "$run/apt.log" 2>&1 || no "apt-get failed: $(tail -1 "$run/apt.log")"
}

up() {
  if timeout 10 docker info >/dev/null 2>&1; then echo 'docker-up: an engine already answers'; return; fi
  [ "$(id -u)" = 0 ] || no 'not root, and no engine answers'
  mkdir -p "$run"
  if ! command -v dockerd >/dev/null || ! command -v iptables >/dev/null; then install_engine; fi
  grep -q ' /sys/fs/cgroup' /proc/mounts || no 'no cgroups are mounted'
  rm -f "$sock"
  setsid dockerd --host "$DOCKER_HOST" --pidfile "$run/engine.pid" > "$run/dockerd.log" 2>&1 < /dev/null &
  echo $! > "$ours"
  for _ in $(seq 1 120); do
    if timeout 5 docker version >/dev/null 2>&1; then echo "docker-up: started dockerd, pid $(cat "$ours")"; return; fi
    alive || no "dockerd ended: $(grep -m1 -E 'level=(fatal|error)|failed to start' "$run/dockerd.log" || tail -1 "$run/dockerd.log")"
    sleep 0.25
  done
  down
  no 'dockerd did not answer in 30 s'
}

down() {
  alive || { rm -f "$ours"; return 0; }
  local pid
  pid=$(cat "$ours")
  kill -TERM "$pid"
  for _ in $(seq 1 80); do [ -d "/proc/$pid" ] || break; sleep 0.25; done
  if [ -d "/proc/$pid" ]; then kill -KILL "$pid"; fi
  rm -f "$ours"
  echo "docker-up: stopped dockerd, pid $pid"
}

case ${1:-} in
  up) up ;;
  down) down ;;
  *) echo 'usage: docker-up.sh up|down' >&2; exit 2 ;;
esac
