#!/usr/bin/env bash
# Proves docker-compose.federation.yml on a real engine: a clear error without a secret, up, learn on one node, kill one, recall on another, down.
# Each point prints "ok ..." or "not ok ..."; the last line is "N passed, N failed". exit 0 all passed, 1 one failed, 75 no engine, compose or image
# can be had here (the reason is on stderr).
#   COMPOSE="docker compose"  the command to use; default: whichever is there
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
project=continuumcheck$$
file=$top/docker-compose.federation.yml
base=node:26-bookworm-slim
passed=0
failed=0
started_engine=no
empty=$(mktemp)

no() { echo "compose-check: $*" >&2; exit 75; }
ok() { passed=$((passed + 1)); echo "ok $1"; }
not_ok() { failed=$((failed + 1)); echo "not ok $1"; [ -z "${2:-}" ] || printf '%s\n' "$2" | tail -20 | sed 's/^/    /'; }
# check NAME EXPECTED-REGEX ACTUAL
check() { if printf '%s' "$3" | grep -Eq -- "$2"; then ok "$1"; else not_ok "$1" "expected /$2/, got: $3"; fi; }
compose() { $COMPOSE --env-file "$empty" -p "$project" -f "$file" "$@"; }
# request NODE METHOD PATH [BODY]: from inside that container, so that nothing but the image is needed
request() {
  docker exec "$(compose ps -q "$1" 2>/dev/null)" node -e '
    const [key, method, path, body] = process.argv.slice(1);
    fetch("http://127.0.0.1:8420" + path, { method, headers: { "x-api-key": key, ...(body ? { "content-type": "application/json" } : {}) }, ...(body ? { body } : {}) })
      .then(async (r) => console.log(r.status, await r.text()), (e) => console.log("error", e.cause?.code ?? e.message));' "$API_KEYS" "$2" "$3" "${4:-}" 2>&1
}
wait_healthy() { # seconds, nodes...
  local deadline=$((SECONDS + $1)); shift
  for node in "$@"; do
    until [ "$(docker inspect -f '{{.State.Health.Status}}' "$(compose ps -q "$node" 2>/dev/null)" 2>/dev/null)" = healthy ]; do
      [ "$SECONDS" -lt "$deadline" ] || return 1
      sleep 0.5
    done
  done
}
cleanup() {
  compose down -v --timeout 15 > /dev/null 2>&1
  rm -f "$empty"
  [ "$started_engine" = no ] || "$here/docker-up.sh" down
}

engine=$("$here/docker-up.sh" up) || exit 75
case $engine in *started*) started_engine=yes ;; esac
trap cleanup EXIT
trap 'exit 130' INT TERM
if [ -z "${COMPOSE:-}" ]; then
  if docker compose version > /dev/null 2>&1; then COMPOSE='docker compose'
  elif command -v docker-compose > /dev/null; then COMPOSE=docker-compose
  elif [ "$(id -u)" = 0 ] && apt-get install -y -qq --no-install-recommends docker-compose > /dev/null 2>&1; then COMPOSE=docker-compose
  else no 'neither `docker compose` nor docker-compose is here'; fi
fi
if ! docker image inspect "$base" > /dev/null 2>&1 && ! timeout 60 docker pull -q "$base" > /dev/null 2>&1; then
  "$here/make-base.sh" "$base" 26 || no "$base can neither be pulled nor made"
fi
echo "with $($COMPOSE version --short 2>/dev/null || $COMPOSE version | head -1), engine $(docker version -f '{{.Server.Version}}')"

export PORT_1=28420 PORT_2=28430 PORT_3=28440
# An env file of our own: a person's .env must not lend its secret to this point.
: > "$empty"
if said=$(env -u FEDERATION_SECRET $COMPOSE --env-file "$empty" -p "$project" -f "$file" config 2>&1); then not_ok 'without a secret compose refuses' "$said"
else check 'without a secret compose refuses and says what to do' 'FEDERATION_SECRET=.*\.env' "$said"; fi

FEDERATION_SECRET=$(head -c 24 /dev/urandom | base64)
API_KEYS=cm_$(head -c 64 /dev/urandom | base64 | tr -dc 'A-Za-z0-9' | head -c 43)
export FEDERATION_SECRET API_KEYS
if said=$(compose up -d --build 2>&1); then ok 'three containers are built and started'
else
  not_ok 'three containers are built and started' "$said"
  echo "$passed passed, $failed failed"
  exit 1
fi
if wait_healthy 90 node-1 node-2 node-3; then ok 'all three become healthy'; else not_ok 'all three become healthy' "$(compose logs --tail 20 2>&1)"; fi
check 'layout 1 has the three named members' '"version":1.*node-1.*node-2.*node-3' "$(request node-1 GET /v1/federation/layout)"

first=$(compose ps -q node-1)
check 'runs as user 1000' '^1000$' "$(docker exec "$first" node -p 'process.getuid()')"
check 'the root file system is read-only' 'EROFS' "$(docker exec "$first" node -e 'try { require("fs").writeFileSync("/app/x", "") } catch (e) { console.log(e.code) }' 2>&1)"
check 'the port is published on loopback only' '^127\.0\.0\.1:28420$' "$(docker port "$first" 8420)"
check 'without a key the API answers 401' '^401 ' "$(API_KEYS= request node-1 GET /v1/stats)"

turn='{"user_message": "Where do the beehives stand?", "ai_response": "The beehives stand in the orchard behind the chapel."}'
check 'learns on node-1 at quorum' '^200 .*turn_' "$(request node-1 POST '/v1/learn?consistency=quorum' "$turn")"
check 'recalls on node-3 at quorum' '^200 .*orchard behind the chapel' "$(request node-3 POST '/v1/recall?consistency=quorum' '{"message": "beehives"}')"
docker kill "$(compose ps -q node-2)" > /dev/null
check 'node-2 killed: learns on node-1 at quorum' '^200 .*turn_' "$(request node-1 POST '/v1/learn?consistency=quorum' '{"user_message": "Who keeps the bees?", "ai_response": "Alice keeps the bees."}')"
check 'node-2 killed: recalls on node-3 at quorum' '^200 .*Alice keeps the bees' "$(request node-3 POST '/v1/recall?consistency=quorum' '{"message": "bees"}')"
compose up -d node-2 > /dev/null 2>&1
if wait_healthy 60 node-2; then ok 'node-2 comes back'; else not_ok 'node-2 comes back' "$(compose logs --tail 20 node-2 2>&1)"; fi
check 'node-2 recalls what it missed' '^200 .*Alice keeps the bees' "$(request node-2 POST '/v1/recall?consistency=quorum' '{"message": "bees"}')"

containers=$(compose ps -q)
began=$SECONDS
compose stop > /dev/null 2>&1
# shellcheck disable=SC2086
check "stops in $((SECONDS - began)) s with exit code 0" '^0 0 0 $' "$(docker inspect -f '{{.State.ExitCode}}' $containers | tr '\n' ' ')"
said=$(compose up -d 2>&1)
wait_healthy 60 node-1 node-2 node-3
check 'a new start finds the same memory' '^200 .*orchard behind the chapel' "$(request node-2 POST '/v1/recall?consistency=quorum' '{"message": "beehives"}')"

compose down -v --timeout 15 > /dev/null 2>&1
left="$(docker ps -aq --filter "label=com.docker.compose.project=$project")$(docker volume ls -q --filter "label=com.docker.compose.project=$project")"
if [ -z "$left" ]; then ok 'down leaves nothing'; else not_ok 'down leaves nothing' "$left"; fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
